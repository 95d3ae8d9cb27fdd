"""What a run is made of, decided before anything expensive starts: data set, recipe, network, device."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import Any, Dict, Optional, Tuple

from shared import cifar10, sample
from shared.cifar10.dataset import Cifar10
from shared.class_names import Classes, Match, match
from shared.errors import UsageError
from shared.recipes.base import as_typed, contradiction
from shared.recipes.cifar10 import RECIPES, CifarRecipe
from shared.run.plan import Plan
from shared.run.resumption import check_same_data, refuse_less
from shared.system.paths import check_there
from shared.text import of_system
from tf_seresnet import devices
from tf_seresnet.layers.counting import roofline_seconds
from tf_seresnet.options import RECIPE_OPTIONS, RunConfig
from tf_seresnet.run import checkpoints, old_run
from tf_seresnet.step.spec import KERAS, NetworkSpec, Normalisation, steps_per_epoch


@dataclass(frozen=True)
class RunSetup:
    """Everything that decides what a run computes. Nothing has been written yet."""

    config: RunConfig
    checkpoint: Optional[checkpoints.Found]  # to resume, to start from or to evaluate
    data: Cifar10
    data_remark: str  # where the data set came from
    recipe: CifarRecipe
    network: NetworkSpec
    normalisation: Normalisation
    classes: Match  # which outputs of the checkpoint's head are the data set's classes
    device: Any

    @classmethod
    def from_config(cls, config: RunConfig) -> RunSetup:
        """The setup of a training (new, from given weights or resumed), or of another mode for a checkpoint's network.

        Raises UsageError where the options, the checkpoint, the data set and the device do not go together.
        """
        config, found = checkpoints.named(config)
        is_training = config.mode == "train"
        data, remark = load_data(config, found.state if found else None)
        stored = found.state if found and not (is_training and config.resume is None) else None
        recipe = _recipe(config, stored, data)
        own = Classes(data.label_names)
        # A checkpoint without a head is refused when it is restored.
        outputs = (checkpoints.classes(found) if found else None) or own
        classes = match(outputs, own, "check --data-path and label_names in batches.meta")
        network = network_of(config, recipe, stored, len((own if is_training else outputs).names))
        # A bare TensorFlow checkpoint has no statistics, and gets those of this training set.
        normalisation = Normalisation(**stored["normalisation"]) if stored else None
        normalisation = normalisation or Normalisation.from_images(data.train_images)
        if is_training:
            wanted = (config, recipe.precision, recipe.loss_scale)
            is_keras = network.layers == KERAS
            device: Any = devices.open_keras(*wanted) if is_keras else devices.open_from(*wanted, stored)
        else:
            device = inference_device(config, stored, network.layers)
            classes = classes.for_evaluation(config.restrict_classes)
        check_devices(device, network, stored if is_training else None)
        setup = cls(config, found, data, remark, recipe, network, normalisation, classes, device)
        if is_training and setup.steps_per_call and setup.steps_per_epoch < 1:
            several = f" on {device.count} devices" if device.count > 1 else ""
            raise UsageError(
                f"a batch of {recipe.batch_size}{several} is larger than the training set; lower --batch-size"
            )
        if is_training and config.resume is not None and found is not None and found.state is None:
            return dataclasses.replace(setup, checkpoint=found._replace(state=old_run.state(setup, found)))
        return setup

    def check_inference(self) -> None:
        """Raise UsageError where the device trains in its precision and cannot evaluate in it."""
        _check_inference(self.device)

    @property
    def resumed_state(self) -> Optional[Dict[str, Any]]:
        """The training state from which the run continues; None for a new run."""
        return self.checkpoint.state if self.checkpoint and self.config.resume is not None else None

    @property
    def resumed_step(self) -> int:
        """How many steps the run has already done."""
        return self.resumed_state["progress"]["step"] if self.resumed_state else 0

    @property
    def steps_per_call(self) -> int:
        """Training steps of one session call, at most. Raises UsageError where the device does not run so many."""
        return self.device.steps_per_call(self.config.steps_per_call)

    @property
    def global_batch_size(self) -> int:
        """Images per training step on all devices together."""
        return self.recipe.batch_size * self.device.count

    @property
    def steps_per_epoch(self) -> int:
        """Training steps of an epoch; the recipe may shorten it."""
        images, device = len(self.data.train_images), self.device
        steps = steps_per_epoch(images, self.global_batch_size, device.count, device.static_shapes)
        return min(steps, self.recipe.steps_per_epoch or steps)

    @property
    def evaluated_classes(self) -> Match:
        """Which outputs of the network are the data set's classes; the head of a training is trained on them."""
        names = tuple(self.data.label_names)
        return self.classes if self.config.mode == "evaluate" else Match(tuple(range(len(names))), names)

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
            warm_up_steps=5,  # which compile and fill caches
            print_by_epoch=False,
            roofline_seconds=roofline_seconds(config.accelerator, recipe, self.device.precision),
        )


def load_data(config: RunConfig, state: Optional[Dict[str, Any]] = None) -> Tuple[Cifar10, str]:
    """The data set, and a line about where it came from.

    The first of these: --data-path, the data set of the checkpoint with this `state`, ./cifar-10-batches-py, and where
    neither data nor weights are named the embedded sample. Raises UsageError where a named one is missing.
    """
    path, remark = config.data_path, ""
    if path is None and state is not None:
        path, remark = of_system(state["data"]["path"]), ", where the checkpoint was trained"
        if sample.is_cached(path) and not os.path.lexists(path):
            path = str(sample.cifar10_folder())  # written again
        check_there(path)
    if path is not None:
        data = cifar10.load(path)
        return data, f"data: {data.name} from {data.path}{remark}"
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


def _recipe(config: RunConfig, stored: Optional[Dict[str, Any]], data: Cifar10) -> CifarRecipe:
    """The recipe of the command line, a short one for the sample, or that of the checkpoint with this state.

    Of a run that is resumed only the number of epochs may change, else UsageError is raised.
    """
    if stored is None:
        recipe = config.named_recipe()
        if data.name == sample.NAME and not config.recipe:
            recipe = RECIPES["sample"]().override(precision=recipe.precision, loss_scale=recipe.loss_scale)
        recipe = recipe.override(**config.given(RECIPE_OPTIONS))
        return recipe.override(network=f"se_resnet{recipe.depth}")  # however the depth was chosen
    recipe = CifarRecipe.from_json(stored["recipe"])
    if config.mode != "train":
        return recipe
    check_same_data(stored["data"], data.fingerprint, Classes(data.label_names), data.path)
    refuse_less(stored["progress"], config.epochs, config.max_steps)
    return recipe.resumed(config.given(RECIPE_OPTIONS), config.recipe)


def network_of(config: RunConfig, recipe: CifarRecipe, state: Optional[Dict[str, Any]], classes: int) -> NetworkSpec:
    """The network of the recipe or of the checkpoint's `state`. Raises UsageError where an option contradicts it."""
    if state is None:
        return NetworkSpec(recipe.depth, recipe.variant, config.layers or "core", classes).checked()
    stored = NetworkSpec(**state["network"])
    for name, value in config.given(("depth", "variant")).items():
        own = getattr(stored, name)
        if value != own and config.resume is not None:
            raise contradiction(name, value, f"{name} {own}")
        if value != own:
            raise UsageError(f"{as_typed(name, value)} and the checkpoint is of {name} {own}; leave --{name} out")
    if stored.num_classes != classes:
        raise UsageError(
            f"the checkpoint has {stored.num_classes} classes and the data set {classes}; check --data-path"
        )
    layers = config.layers or stored.layers
    if config.mode == "train" and layers != stored.layers and KERAS in (layers, stored.layers):
        raise contradiction("layers", layers, f"layers {stored.layers}")
    if config.is_graphs and layers == KERAS:  # a graph has the same variables
        layers = "core"
    return dataclasses.replace(stored, layers=layers).checked()


def inference_device(config: RunConfig, state: Optional[Dict[str, Any]], layers: str = "core") -> Any:
    """The device, in the precision of the checkpoint's training where that was on the same kind, else in float32."""
    open_one = devices.open_keras if layers == KERAS else devices.open_from
    device = open_one(config, config.precision or "O0")
    if state and config.precision is None and state["device"]["kind"] == device.kind:
        device = open_one(config, state["recipe"]["precision"])
    _check_inference(device)
    return device


def _check_inference(device: Any) -> None:
    if device.no_inference:
        raise UsageError(device.no_inference)


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
