"""What a run is made of, decided before anything expensive starts: data set, recipe, network, transforms."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import torch
from torch import nn

from shared import imagenet, recipes, sample
from shared.class_names import Classes, Match, check_same
from shared.errors import UsageError
from shared.imagenet.dataset import ImageNet, Split
from shared.imagenet.download_cache import is_url, shown
from shared.imagenet.split import WHOLE
from shared.recipes.imagenet import DEFAULTS, GENERAL, SMALL, ImageNetRecipe
from shared.run import provenance
from shared.run import reproducibility as rounding
from shared.run.progress import refuse_less
from shared.system.atomic_files import write_atomic
from shared.system.paths import check_there
from shared.text import in_utf8, of_system
from torch_imagenet.devices.device import Device
from torch_imagenet.devices.precision import PRECISIONS, Precision
from torch_imagenet.distributed.restart import job_name
from torch_imagenet.input_pipeline.transforms import EvalTransform, TrainTransform
from torch_imagenet.networks.registry import NETWORKS
from torch_imagenet.networks.spec import NetworkSpec
from torch_imagenet.options import RunConfig, shard_cache
from torch_imagenet.step.normalisation import Normalisation

DEFAULT_NETWORK = "se_resnet50"

# What an option changes in a recipe, by the name that the option has in the namespace.
RECIPE_OPTIONS = tuple(
    (
        "network epochs batch_size learning_rate scheduler milestones factors warm_up_epochs period factor "
        "minimum momentum weight_decay precision loss_scale seed steps_per_epoch image_size dropout drop_path "
        "auxiliary_weight zero_pad label_smoothing smoothing decayed clip_norm accumulate ema_decay mixup cutmix "
        "randaugment freeze_body"
    ).split()
)


@dataclass(frozen=True)
class Data:
    """The data set of a run, and a line about where it came from."""

    content: ImageNet
    remark: str

    @property
    def train(self) -> Split:
        """The images to train on, of a data set that was loaded for training."""
        assert self.content.train is not None
        return self.content.train

    @property
    def classes(self) -> Classes:
        """What the labels stand for."""
        return Classes(self.content.classes, self.content.named)

    def describe(self) -> Dict[str, Any]:
        """The `dataset` part of a record."""
        content = self.content
        return {
            "name": content.name,
            "path": in_utf8(content.path),
            "train_images": len(content.train) if content.train is not None else None,
            "eval_images": len(content.val),
            "fingerprint": content.fingerprint,
            "classes": self.classes.stored(),
        }

    def labelled(self, found: Match) -> Data:
        """The validation images under the numbers and names that the network's outputs have."""
        val = replace(self.content.val, classes=found.names, labels=found.labels(self.content.val.labels))
        return replace(self, content=replace(self.content, classes=found.names, val=val))


def load_data(
    config: RunConfig,
    state: Optional[Dict[str, Any]] = None,
    need_train: bool = True,
    start: Optional[Dict[str, Any]] = None,
) -> Data:
    """In this order: --data-path, what the checkpoint's run used, ./imagenet, and where nobody has named data or
    weights the embedded sample.

    With the `state` of a run that is to be continued the training images have the order that they had in it; `start` is
    that of a run whose weights alone are taken. Raises UsageError where what is named is not there.
    """
    data = _found_data(config, state or start, ("train", "val") if need_train else ("val",))
    if state is None or not need_train:
        return data
    train = data.train.ordered(state["data"].get("order", WHOLE))
    return replace(data, content=replace(data.content, train=train))


def _found_data(config: RunConfig, state: Optional[Dict[str, Any]], splits: Sequence[str]) -> Data:
    if config.data_path is not None:
        content = imagenet.load(config.data_path, splits, shard_cache=shard_cache(config, config.data_path))
        return Data(content, f"data: {content.name} from {shown(content.path)}")
    if state is not None:
        content = _trained_on(config, state["data"], splits)
        return Data(content, f"data: {content.name} from {shown(content.path)}, where the checkpoint was trained")
    if os.path.lexists(imagenet.FOLDER):
        content = imagenet.load(imagenet.FOLDER, splits=splits)
        return Data(content, f"data: {content.name} from ./{imagenet.FOLDER}")
    if config.checkpoint is not None or config.resume is not None:
        raise UsageError(f"no data set is named, and there is no ./{imagenet.FOLDER}; name one with --data-path DIR")
    content = imagenet.load(sample.imagenet_folder(), splits=splits, name=sample.NAME)
    return Data(
        content,
        (
            f"data: no ImageNet here, so the embedded sample is used ({sample.TRAIN_IMAGES} handwritten digits to train"
            f" on, {sample.TEST_IMAGES} to test on); give the real data with --data-path DIR"
        ),
    )


def _trained_on(config: RunConfig, stored: Dict[str, Any], splits: Sequence[str]) -> ImageNet:
    """The data set that a checkpoint names. The embedded sample is made again where its folder is gone."""
    place = of_system(stored["path"])
    if sample.is_cached(place) and not os.path.lexists(place):
        place = str(sample.imagenet_folder())
    if not is_url(place):
        check_there(place)
    return imagenet.load(place, splits, stored["name"], shard_cache=shard_cache(config, place))


# -- recipe ----------------------------------------------------------------------------------------------------


def choose_recipe(config: RunConfig, data: Data, device: Device) -> ImageNetRecipe:
    """--recipe, else the network's documented one for one device; a short one for the sample. Options override it."""
    name = config.recipe or ("imagenet_sample" if data.content.name == sample.NAME else _documented(config))
    return _overridden(name, config, device)


def synthetic_recipe(config: RunConfig, device: Device) -> ImageNetRecipe:
    """The recipe that is measured where no data is read. Options override it."""
    return _overridden(config.recipe or _documented(config), config, device)


def _documented(config: RunConfig) -> str:
    return DEFAULTS[config.network or DEFAULT_NETWORK]


def _overridden(name: str, config: RunConfig, device: Device) -> ImageNetRecipe:
    recipe = recipes.get(name)
    assert isinstance(recipe, ImageNetRecipe)  # the command line knows no others
    given = given_options(config)
    documented_step = recipe.batch_size * recipe.devices
    network = given.get("network", recipe.network)
    if network != recipe.network:
        if name in GENERAL:
            given.setdefault("image_size", recipe.image_size if name in SMALL else NETWORKS[network].image_size)
        elif {network, recipe.network} != {"se_resnet50", "se_resnet50_caffe"}:
            raise UsageError(f"recipe {name} is of {recipe.network}; leave --network {network} out")
    given.setdefault("precision", device.training_precision(recipe.precision))
    if PRECISIONS.get(given["precision"], Precision("")).loss_scale is None:
        given.setdefault("loss_scale", None)  # float32's range needs none
    chosen = recipe.override(**given)
    if config.scale_learning_rate:
        # The linear scaling rule (Goyal et al., arXiv 1706.02677, section 2.1), from the step that the rate is for.
        step = chosen.batch_size * chosen.accumulate * device.count
        chosen = chosen.override(learning_rate=chosen.schedule.base * step / documented_step)
    return chosen


def resumed_recipe(config: RunConfig, state: Dict[str, Any], data: Data) -> ImageNetRecipe:
    """The recipe of the interrupted run, of which only the number of epochs may change.

    Raises UsageError where an option or the data set would make it another run.
    """
    if data.content.fingerprint != state["data"]["fingerprint"]:
        raise UsageError(
            f"{data.content.path} is not the data set that the run was trained on; give that one with --data-path, or"
            " start a new run with --checkpoint"
        )
    check_same(state["data"].get("classes"), data.classes, data.content.path)
    refuse_less(state["progress"], config.epochs, config.max_steps)
    stored = ImageNetRecipe.from_json(state["recipe"])
    given = given_options(config)
    if config.scale_learning_rate:
        given.pop("learning_rate", None)  # the stored one is already scaled
    return stored.resumed(given, config.recipe)


def arithmetic(device: Device, memory_format: str, compiled: bool) -> Dict[str, Any]:
    """What decides how sums are rounded, besides the recipe; see `shared.run.reproducibility`."""
    return {
        "device": f"{device.kind}, {device.name}",
        "memory_format": memory_format,
        "compiled": compiled,
        "threads": None if device.asynchronous else torch.get_num_threads(),
        "torch": torch.__version__,
    }


def resumption_remarks(state: Dict[str, Any], recipe: ImageNetRecipe, now: Dict[str, Any]) -> List[str]:
    """What the user should know about how the continuation differs; `now` is its `arithmetic`."""
    before = ImageNetRecipe.from_json(state["recipe"]).schedule
    return [
        *recipe.schedule.prolonged(before, state["progress"]["epoch"]),
        *rounding.changes(state.get("arithmetic", {}), now),
    ]


def evaluated_recipe(config: RunConfig, state: Optional[Dict[str, Any]], data: Data) -> ImageNetRecipe:
    """The recipe that a checkpoint was trained with; for bare weights, the network's with its own image size."""
    if state is not None:
        trained = ImageNetRecipe.from_json(state["recipe"])
        if config.network not in (None, trained.network):
            raise UsageError(f"the checkpoint is of {trained.network}; leave --network {config.network} out")
        return trained.override(image_size=config.image_size or trained.image_size)
    network = config.network or DEFAULT_NETWORK
    recipe = recipes.get(DEFAULTS[network])
    assert isinstance(recipe, ImageNetRecipe)
    changes = {"network": network, "image_size": config.image_size or NETWORKS[network].image_size}
    if config.zero_pad is not None:
        changes["zero_pad"] = config.zero_pad
    return recipe.override(auxiliary_weight=0.0, **changes)


def given_options(config: RunConfig) -> Dict[str, Any]:
    """What the command line says about the recipe."""
    values = {name: getattr(config, name, None) for name in RECIPE_OPTIONS}
    return {name: value for name, value in values.items() if value is not None}


# -- network, transforms ---------------------------------------------------------------------------------------


def network_spec(
    config: RunConfig, recipe: ImageNetRecipe, state: Optional[Dict[str, Any]], classes: int, whose: str
) -> NetworkSpec:
    """The recipe's network for so many classes, or the one that a checkpoint was made with.

    Raises UsageError where the numbers of classes differ; `whose` says what has so many, the data set or the weights.
    """
    asked = config.num_classes
    if asked not in (None, classes):
        raise UsageError(
            f"--num-classes {asked}, but the {whose} has {classes} classes; leave it out, or check the data"
        )
    if state is None:
        return NetworkSpec.from_recipe(recipe, classes)
    stored = NetworkSpec(**state["network"])
    if stored.num_classes != classes:
        raise UsageError(
            f"the checkpoint has {stored.num_classes} classes and the data set {classes}; check --data-path, or give"
            " it a new head with the mode finetune"
        )
    return stored


def train_transform(recipe: ImageNetRecipe) -> TrainTransform:
    """Random crops, flips and, where asked for, RandAugment."""
    return TrainTransform(
        recipe.image_size, crop_scale=recipe.crop_scale, flip=recipe.flip, randaugment=_pair(recipe.randaugment)
    )


def _pair(numbers: Sequence[int]) -> Optional[Tuple[int, int]]:
    return (numbers[0], numbers[1]) if numbers else None


def eval_transform(config: RunConfig, recipe: ImageNetRecipe, spec: NetworkSpec) -> EvalTransform:
    """Resize and centre crop, by the network's documented fraction."""
    return EvalTransform(recipe.image_size, NETWORKS[spec.name].crop_fraction, config.keep_aspect)


def normalisation(spec: NetworkSpec, device: Device, level: Precision, memory_format: str) -> Normalisation:
    """The network's documented mean and deviation, applied on the device."""
    values = NETWORKS[spec.name]
    return Normalisation(values.mean, values.std, device.torch_device, level.weights, memory_format == "channels_last")


# -- what is said and written ----------------------------------------------------------------------------------


def parameters(network: nn.Module) -> int:
    """How many numbers the network learns, frozen ones included."""
    return sum(parameter.numel() for parameter in network.parameters())


def device_lines(device: Device, level: Precision) -> List[str]:
    """The device and what the user should know about it."""
    return [f"device: {device.kind}, {device.name}, precision {level.name}", *[f"note: {n}" for n in device.notes]]


def network_line(spec: NetworkSpec, network: nn.Module) -> str:
    """One line about the network."""
    return f"network: {spec.text()}, {parameters(network):,} parameters"


def versions() -> Dict[str, str]:
    """What the numbers depend on."""
    import PIL

    return provenance.versions(torch=torch.__version__, numpy=np.__version__, pillow=PIL.__version__)


def write_config(
    folder: Path,
    config: RunConfig,
    recipe: ImageNetRecipe,
    spec: NetworkSpec,
    device: Device,
    data: Optional[Data] = None,
) -> None:
    """config.json: everything that decided what this run does, as it was resolved. Without `data` it made its own."""
    content = {
        "command": provenance.command(),
        "job": job_name(),
        "commit": provenance.commit(),
        "recipe": recipe.to_json(),
        "learning_rate": recipe.schedule.describe(),
        "network": spec.to_json(),
        "options": config.to_json(),
        "device": device.describe(),
        "global_batch_size": recipe.batch_size * recipe.accumulate * device.count,
        "data": data.describe() if data is not None else {"name": "synthetic"},
        "machine": provenance.machine(),
        "versions": versions(),
    }
    write_atomic(folder / "config.json", json.dumps(content, indent=2) + "\n")
