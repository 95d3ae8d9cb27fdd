"""The recipe and the network of a run: documented, or the checkpoint's, and what the command line overrides."""

from __future__ import annotations

from typing import Any, Dict, Optional, Tuple

from shared import recipes, sample
from shared.errors import UsageError
from shared.recipes.base import as_typed
from shared.recipes.imagenet import DEFAULT_NETWORK, DEFAULTS, GENERAL, SMALL, ImageNetRecipe, elsewhere
from shared.run.resumption import check_same_data, refuse_less
from torch_imagenet.devices.device import Device
from torch_imagenet.devices.precision import PRECISIONS, Precision
from torch_imagenet.input_pipeline.dataset import Data
from torch_imagenet.networks.registry import NETWORKS
from torch_imagenet.networks.spec import NetworkSpec
from torch_imagenet.options import FORM, RunConfig

# What an option changes in a recipe, by the name that the option has in the namespace.
RECIPE_OPTIONS = (
    "network epochs batch_size learning_rate scheduler milestones factors warm_up_epochs period factor minimum "
    "momentum weight_decay precision loss_scale seed steps_per_epoch image_size dropout drop_path auxiliary_weight "
    "zero_pad normalisation label_smoothing smoothing decayed clip_norm accumulate ema_decay mixup cutmix randaugment "
    "trivialaugment erasing freeze_body every_step zero_init"
).split()


def global_batch_size(recipe: ImageNetRecipe, device: Device) -> int:
    """The images of one step over all devices, accumulated batches included."""
    return recipe.batch_size * recipe.accumulate * device.count


def choose_recipe(config: RunConfig, device: Device, data: Optional[Data] = None) -> ImageNetRecipe:
    """--recipe, else the network's documented one for one device; a short one for the sample. Options override it."""
    on_sample = data is not None and data.content.name == sample.NAME
    recipe, network = _named(config, "imagenet_sample" if on_sample else "")
    recipe = recipe if device.of_the_ports else elsewhere(recipe)
    given = config.given(RECIPE_OPTIONS)
    documented_step = recipe.batch_size * recipe.devices
    if network != recipe.network and recipe.name in GENERAL:
        given.setdefault("image_size", recipe.image_size if recipe.name in SMALL else NETWORKS[network].image_size)
    given.setdefault("precision", device.training_precision(recipe.precision))
    if PRECISIONS.get(given["precision"], Precision("")).loss_scale is None:
        given.setdefault("loss_scale", None)  # float32's range needs none
    chosen = recipe.override(**given)
    if config.scale_learning_rate:
        # The linear scaling rule (Goyal et al., arXiv 1706.02677, section 2.1), from the step that the rate is for.
        step = global_batch_size(chosen, device)
        chosen = chosen.override(learning_rate=chosen.schedule.base * step / documented_step)
    return chosen


def _named(config: RunConfig, default: str = "") -> Tuple[ImageNetRecipe, str]:
    """The recipe of --recipe, else `default`, else the network's own, and the network. Raises UsageError."""
    recipe = recipes.get(config.recipe or default or DEFAULTS[config.network or DEFAULT_NETWORK])
    assert isinstance(recipe, ImageNetRecipe)  # the command line knows no others
    network = config.network or recipe.network
    alike = network == recipe.network or {network, recipe.network} == {"se_resnet50", "se_resnet50_caffe"}
    if not alike and recipe.name not in GENERAL:
        raise UsageError(f"recipe {recipe.name} is of {recipe.network}; leave --network {network} out")
    if config.zero_pad is not None and "zero_pad" not in NETWORKS[network].options:
        typed = as_typed("zero_pad", config.zero_pad)
        raise UsageError(f"{typed} is PNASNet's; leave it out, {network} has no such padding")
    return recipe, network


def resumed_recipe(config: RunConfig, state: Dict[str, Any], data: Data) -> ImageNetRecipe:
    """That of the interrupted run. Raises UsageError where an option but --epochs, or the data set, changes the run."""
    check_same_data(state["data"], data.content.fingerprint, data.classes, data.content.path)
    refuse_less(state["progress"], config.epochs, config.max_steps)
    stored = ImageNetRecipe.from_json(state["recipe"])
    given = config.given(RECIPE_OPTIONS)
    if config.scale_learning_rate:
        given.pop("learning_rate", None)  # the stored one is already scaled
    return stored.resumed(given, config.recipe)


def evaluated_recipe(config: RunConfig, state: Optional[Dict[str, Any]]) -> ImageNetRecipe:
    """The recipe that a checkpoint was trained with; for bare weights, the network's with its own image size."""
    if state is not None:
        trained = ImageNetRecipe.from_json(state["recipe"])
        if config.network not in (None, trained.network):
            raise UsageError(f"the checkpoint is of {trained.network}; leave --network {config.network} out")
        for field, value in config.given(FORM).items():
            if value != getattr(trained, field):
                typed, own = as_typed(field, value), as_typed(field, getattr(trained, field))
                raise UsageError(f"the checkpoint was trained with {own}; leave {typed} out")
        return trained.override(image_size=config.image_size or trained.image_size)
    recipe, network = _named(config)
    image_size = config.image_size or NETWORKS[network].image_size
    return recipe.override(network=network, image_size=image_size, auxiliary_weight=0.0, **config.given(FORM))


def network_spec(
    config: RunConfig, recipe: ImageNetRecipe, state: Optional[Dict[str, Any]], classes: int, whose: str
) -> NetworkSpec:
    """The recipe's network, or the checkpoint's. Raises UsageError if it has not as many `classes` as `whose` has."""
    requested = config.num_classes
    if requested not in (None, classes):
        raise UsageError(
            f"--num-classes {requested}, but the {whose} has {classes} classes; leave it out, or check the data"
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
