"""What a run is made of, decided before anything expensive starts: data set, recipe, network, device."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional

import numpy as np
import tensorflow as tf

from shared import recipes, sample
from shared.cifar10.dataset import Cifar10
from shared.class_names import Classes, Match, match
from shared.errors import UsageError
from shared.recipes.cifar10 import CifarRecipe
from shared.results.record import build_record
from shared.run import provenance, resumption
from shared.run.loop import Plan
from shared.text import in_utf8
from tf_seresnet import checkpoints, devices, input_pipeline
from tf_seresnet.layers.counting import roofline_seconds
from tf_seresnet.network_spec import NetworkSpec
from tf_seresnet.options import RECIPE_OPTIONS, RunConfig

WARM_UP_STEPS = 5  # left out of throughput: the first ones compile and fill caches
CLASSES_ADVICE = "check --data-path and label_names in batches.meta"


@dataclass(frozen=True)
class RunSetup:
    """Everything that decides what a run computes. Nothing has been written yet."""

    config: RunConfig
    checkpoint: Optional[checkpoints.Found]  # to resume, to start from or to evaluate
    data: Cifar10
    data_remark: str  # where the data set came from
    recipe: CifarRecipe
    network: NetworkSpec
    normalisation: input_pipeline.Normalisation
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
        data, remark = input_pipeline.load_data(config, state)
        resumed_state = state if config.resume is not None else None
        recipe = resumed_recipe(config, resumed_state, data) if resumed_state else choose_recipe(config, data)
        normalisation = input_pipeline.Normalisation.from_images(data.train_images)
        network = NetworkSpec.from_config(config, recipe, resumed_state, len(data.label_names))
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
        steps = input_pipeline.steps_per_epoch(
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
        return Plan(
            epochs=recipe.epochs,
            steps_per_epoch=self.steps_per_epoch,
            total_steps=min(total, config.max_steps or total),
            print_freq=config.print_freq,
            save_steps=config.save_steps,
            warm_up_steps=WARM_UP_STEPS,
            print_by_epoch=False,
            roofline_seconds=roofline_seconds(config.accelerator, recipe, self.device.precision),
        )

    def remarks(self) -> List[str]:
        """What the user should know about the schedule, and how a continuation differs from its run."""
        lines, state = list(self.recipe.schedule.remarks()), self.resumed_state
        if state:
            before = CifarRecipe.from_json(state["recipe"]).schedule
            lines += self.recipe.schedule.prolonged(before, state["progress"]["epoch"])
            lines += resumption.rounding_changes(state.get("arithmetic", {}), arithmetic(self.device))
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

    def write_config(self, folder: Path) -> None:
        """Write config.json into the run's folder. Raises OSError."""
        provenance.write_config(
            folder,
            self.recipe,
            {},
            network=dataclasses.asdict(self.network),
            options=self.config.to_json(),
            device=self.device.settings(),
            global_batch_size=self.global_batch_size,
            data=input_pipeline.describe_data(self.data),
            versions=versions(),
        )

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
            dataset=input_pipeline.describe_data(self.data),
            device=self.device.describe(),
            machine=provenance.machine(),
            precision=self.device.precision,
            versions=versions(),
            **parts,
        )


def choose_recipe(config: RunConfig, data: Cifar10) -> CifarRecipe:
    """--recipe, else the device's documented one; a short one for the sample. Options override its fields."""
    recipe = recipes.get(config.recipe or devices.documented_recipe(config.device))
    if data.name == sample.NAME and not config.recipe:
        recipe = recipes.get("sample").override(precision=recipe.precision, loss_scale=recipe.loss_scale)
    assert isinstance(recipe, CifarRecipe)  # the command line knows no others
    recipe = recipe.override(**config.given(RECIPE_OPTIONS))
    return recipe.override(network=f"se_resnet{recipe.depth}")  # however the depth was chosen


def resumed_recipe(config: RunConfig, state: Dict[str, Any], data: Cifar10) -> CifarRecipe:
    """The recipe of the interrupted run; only its number of epochs may change.

    Raises UsageError where an option or the data set would make it another run.
    """
    resumption.check_same_data(state["data"], data.fingerprint, Classes(data.label_names), data.path)
    resumption.refuse_less(state["progress"], config.epochs, config.max_steps)
    return CifarRecipe.from_json(state["recipe"]).resumed(config.given(RECIPE_OPTIONS), config.recipe)


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
    """What decides how sums are rounded, besides the recipe; see `resumption.rounding_changes`."""
    return {
        "device": f"{device.kind}, {device.name}",
        "threads": device.threads(),
        "xla": device.request.xla,
        "tensorflow": versions()["tensorflow"],
    }


def versions() -> Dict[str, str]:
    """The versions that the numbers depend on."""
    return provenance.versions(tensorflow=str(tf.__version__), numpy=np.__version__)
