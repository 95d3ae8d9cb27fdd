"""What a run is made of, decided before anything expensive starts: data set, recipe, network, device."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import numpy as np
import tensorflow as tf

from shared import cifar10, recipes, sample
from shared.cifar10.dataset import Cifar10
from shared.class_names import Classes, Match, check_same, match
from shared.errors import UsageError
from shared.recipes.base import contradiction
from shared.recipes.cifar10 import CifarRecipe
from shared.results.record import build_record
from shared.roofline import element_bytes
from shared.run import provenance, reproducibility
from shared.run.loop import Plan
from shared.run.progress import refuse_less
from shared.system.atomic_files import write_atomic
from shared.system.paths import check_there
from shared.text import in_utf8, of_system
from tf_seresnet import checkpoints, devices
from tf_seresnet.checkpoints import Found
from tf_seresnet.input_pipeline import Normalisation, steps_per_epoch
from tf_seresnet.layers.counting import network_cost
from tf_seresnet.network_spec import NetworkSpec
from tf_seresnet.options import RunConfig

# The options that override a field of the recipe.
RECIPE_OPTIONS = (
    "depth variant epochs batch_size learning_rate scheduler milestones factors warm_up_epochs momentum "
    "weight_decay precision loss_scale seed steps_per_epoch"
).split()
WARM_UP_STEPS = 5  # left out of throughput: the first ones compile and fill caches
CLASSES_ADVICE = "check --data-path and label_names in batches.meta"


@dataclass(frozen=True)
class RunSetup:
    """Everything that decides what a run computes. Nothing has been written yet."""

    config: RunConfig
    checkpoint: Optional[Found]  # to resume, to start from or to evaluate
    data: Cifar10
    data_remark: str  # where the data set came from
    recipe: CifarRecipe
    network: NetworkSpec
    normalisation: Normalisation
    classes: Match  # which outputs of the checkpoint's head are the data set's classes
    device: Any

    @classmethod
    def from_config(cls, config: RunConfig) -> RunSetup:
        """The setup of a training: a new run, a new run from given weights, or the continuation of a run.

        A resumed run continues in its own folder unless --output-dir is given. Raises UsageError where the options, the
        checkpoint, the data set and the device do not go together.
        """
        config, checkpoint = checkpoints.of_training(config)
        state = checkpoint.state if checkpoint else None
        data, remark = load_data(config, state)
        resumed_state = state if config.resume is not None else None
        recipe = resumed_recipe(config, resumed_state, data) if resumed_state else choose_recipe(config, data)
        normalisation = Normalisation.from_images(data.train_images)
        network = network_spec(config, recipe, resumed_state, len(data.label_names))
        own = Classes(data.label_names)
        # The weights' classes; those of a run to resume are checked with its recipe, and a checkpoint without a head
        # is refused when it is restored.
        outputs = checkpoints.classes(checkpoint) if checkpoint and not resumed_state else None
        classes = match(outputs or own, own, CLASSES_ADVICE)
        device = devices.open_from(config, recipe.precision, recipe.loss_scale)
        check_devices(device, network, resumed_state)
        setup = cls(config, checkpoint, data, remark, recipe, network, normalisation, classes, device)
        if setup.steps_per_epoch < 1:
            several = f" on {device.count} devices" if device.count > 1 else ""
            raise UsageError(
                f"a batch of {recipe.batch_size}{several} is larger than the training set; lower --batch-size"
            )
        return setup

    @property
    def resumed_state(self) -> Optional[Dict[str, Any]]:
        """The training state from which the run continues; None for a new run."""
        return self.checkpoint.state if self.checkpoint and self.config.resume is not None else None

    @property
    def global_batch_size(self) -> int:
        """Images per training step on all devices together."""
        return self.recipe.batch_size * self.device.count

    @property
    def steps_per_epoch(self) -> int:
        """Training steps of an epoch; the recipe may shorten it."""
        steps = steps_per_epoch(
            len(self.data.train_images), self.global_batch_size, self.device.count, self.device.static_shapes
        )
        return min(steps, self.recipe.steps_per_epoch or steps)

    @property
    def resumed_step(self) -> int:
        """How many steps the run has already done."""
        return self.resumed_state["progress"]["step"] if self.resumed_state else 0

    @property
    def is_full_recipe(self) -> bool:
        """Whether no option makes the run shorter than its recipe."""
        return not (self.config.max_steps or self.recipe.steps_per_epoch or self.config.epochs)

    @property
    def own_classes(self) -> Match:
        """The data set's classes as outputs of the network that is trained on them."""
        names = tuple(self.data.label_names)
        return Match(tuple(range(len(names))), names)

    @property
    def plan(self) -> Plan:
        """How long to train, and how often to log and save."""
        config, recipe = self.config, self.recipe
        total = self.steps_per_epoch * recipe.epochs
        roofline = None
        if config.accelerator is not None:
            cost = network_cost(recipe.depth, recipe.variant)
            roofline = config.accelerator.roofline_seconds(
                cost, recipe.batch_size, element_bytes(self.device.precision)
            )
        return Plan(
            epochs=recipe.epochs,
            steps_per_epoch=self.steps_per_epoch,
            total_steps=min(total, config.max_steps or total),
            print_freq=config.print_freq,
            save_steps=config.save_steps,
            warm_up_steps=WARM_UP_STEPS,
            print_by_epoch=False,
            roofline_seconds=roofline,
        )

    def remarks(self) -> List[str]:
        """What the user should know about the schedule, and how a continuation differs from its run."""
        lines, state = list(self.recipe.schedule.remarks()), self.resumed_state
        if state:
            before = CifarRecipe.from_json(state["recipe"]).schedule
            lines += self.recipe.schedule.prolonged(before, state["progress"]["epoch"])
            lines += reproducibility.changes(state.get("arithmetic", {}), arithmetic(self.device))
        return lines

    def checkpoint_state(self) -> Dict[str, Any]:
        """What a checkpoint must state so that evaluation and resumption need nothing else."""
        data = self.data
        return {
            "recipe": self.recipe.to_json(),
            "network": dataclasses.asdict(self.network),
            "normalisation": dataclasses.asdict(self.normalisation),
            "data": {"path": in_utf8(data.path), "fingerprint": data.fingerprint, "classes": data.label_names},
            "device": self.device.describe(),
            "arithmetic": arithmetic(self.device),
        }

    def write_config(self, path: Path) -> None:
        """Write config.json: everything that decided what this run does, as it was resolved."""
        content = {
            "command": provenance.command(),
            "commit": provenance.commit(),
            "recipe": self.recipe.to_json(),
            "learning_rate": self.recipe.schedule.describe(),
            "network": dataclasses.asdict(self.network),
            "options": self.config.to_json(),
            "device": self.device.settings(),
            "global_batch_size": self.global_batch_size,
            "data": describe_data(self.data),
            "machine": provenance.machine(),
            "versions": versions(),
        }
        write_atomic(path, json.dumps(content, indent=2) + "\n")

    def record(self, mode: str, **parts: Any) -> Dict[str, Any]:
        """result.json of this run: what the setup decided, and the `parts` that the mode measured."""
        return build_record(
            half="tf_seresnet",
            mode=mode,
            network=self.recipe.network,
            recipe=self.recipe.name,
            depth=self.network.depth,
            variant=self.network.variant,
            layers=self.network.layers,
            dataset=describe_data(self.data),
            device=self.device.describe(),
            machine=provenance.machine(),
            precision=self.device.precision,
            versions=versions(),
            **parts,
        )


def load_data(config: RunConfig, state: Optional[Dict[str, Any]] = None) -> Tuple[Cifar10, str]:
    """The data set, and a line about where it came from.

    The first of these: --data-path, the data set of the checkpoint with this `state`, ./cifar-10-batches-py, and where
    neither data nor weights are named the embedded sample. Raises UsageError where a named one is missing.
    """
    if config.data_path is not None:
        data = cifar10.load(config.data_path)
        return data, f"data: {data.name} from {data.path}"
    if state is not None:
        data = _load_stored(state["data"])
        return data, f"data: {data.name} from {data.path}, where the checkpoint was trained"
    if os.path.lexists(cifar10.FOLDER):
        data = cifar10.load(cifar10.FOLDER)
        return data, f"data: {data.name} from ./{cifar10.FOLDER}"
    if config.checkpoint is not None or config.resume is not None:
        raise UsageError(f"no data set is named, and there is no ./{cifar10.FOLDER}; name one with --data-path DIR")
    data = cifar10.load(sample.cifar10_folder())
    return data, (
        f"data: no CIFAR-10 here, so the embedded sample is used ({len(data.train_images)} handwritten digits to train"
        f" on, {len(data.test_images)} to test on); give the real data with --data-path DIR"
    )


def _load_stored(stored: Dict[str, Any]) -> Cifar10:
    """The data set that a checkpoint names. The embedded sample is written again where its folder is gone."""
    path = of_system(stored["path"])
    if sample.is_cached(path) and not os.path.lexists(path):
        path = str(sample.cifar10_folder())
    check_there(path)
    return cifar10.load(path)


def choose_recipe(config: RunConfig, data: Cifar10) -> CifarRecipe:
    """--recipe, else the device's documented one; a short one for the sample. Options override its fields."""
    recipe = recipes.get(config.recipe or devices.documented_recipe(config.device))
    if data.name == sample.NAME and not config.recipe:
        recipe = recipes.get("sample").override(precision=recipe.precision, loss_scale=recipe.loss_scale)
    assert isinstance(recipe, CifarRecipe)  # the command line knows no others
    recipe = recipe.override(**_overrides(config))
    return recipe.override(network=f"se_resnet{recipe.depth}")  # however the depth was chosen


def resumed_recipe(config: RunConfig, state: Dict[str, Any], data: Cifar10) -> CifarRecipe:
    """The recipe of the interrupted run; only its number of epochs may change.

    Raises UsageError where an option or the data set would make it another run.
    """
    if data.fingerprint != state["data"]["fingerprint"]:
        raise UsageError(
            f"{data.path} is not the data set that the run was trained on; give that one with --data-path, or start"
            " a new run with --checkpoint"
        )
    check_same(state["data"].get("classes"), Classes(data.label_names), data.path)
    refuse_less(state["progress"], config.epochs, config.max_steps)
    return CifarRecipe.from_json(state["recipe"]).resumed(_overrides(config), config.recipe)


def network_spec(config: RunConfig, recipe: CifarRecipe, state: Optional[Dict[str, Any]], classes: int) -> NetworkSpec:
    """The network of the recipe, or of the checkpoint with this `state`, of which only the layer set can be changed.

    Raises UsageError where an option contradicts the checkpoint.
    """
    if state is None:
        return NetworkSpec(recipe.depth, recipe.variant, config.layers or "core", classes).checked()
    stored = NetworkSpec(**state["network"])
    for name in ("depth", "variant"):
        if getattr(config, name) not in (None, getattr(stored, name)):
            raise contradiction(name, getattr(config, name), f"{name} {getattr(stored, name)}")
    if stored.num_classes != classes:
        raise UsageError(
            f"the checkpoint has {stored.num_classes} classes and the data set {classes}; check --data-path"
        )
    return dataclasses.replace(stored, layers=config.layers or stored.layers).checked()


def check_devices(device: Any, network: NetworkSpec, state: Optional[Dict[str, Any]] = None) -> None:
    """Raise UsageError where this number of devices cannot run the network, or cannot continue the run of `state`."""
    if device.count > 1 and network.layers == "slim":
        raise UsageError("--layers slim runs on one device; use --layers core, the same network and checkpoints")
    before = (state or {}).get("device", {}).get("count", device.count)
    if before != device.count:
        raise UsageError(
            f"the run to resume trained on {before} devices and this is {device.count}; give --num-devices {before}, or"
            " start a new run with --checkpoint"
        )


def arithmetic(device: Any) -> Dict[str, Any]:
    """What decides how sums are rounded, besides the recipe; see `shared.run.reproducibility`."""
    return {
        "device": f"{device.kind}, {device.name}",
        "threads": device.threads(),
        "xla": device.request.xla,
        "tensorflow": versions()["tensorflow"],
    }


def _overrides(config: RunConfig) -> Dict[str, Any]:
    values = {name: getattr(config, name) for name in RECIPE_OPTIONS}
    return {name: value for name, value in values.items() if value is not None}


def versions() -> Dict[str, str]:
    """The versions that the numbers depend on."""
    return provenance.versions(tensorflow=str(tf.__version__), numpy=np.__version__)


def describe_data(data: Cifar10) -> Dict[str, Any]:
    """The `dataset` part of a record."""
    return {
        "name": data.name,
        "path": in_utf8(data.path),
        "train_images": len(data.train_images),
        "eval_images": len(data.test_images),
        "fingerprint": data.fingerprint,
        "classes": data.label_names,
    }
