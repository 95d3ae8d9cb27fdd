"""What a run is made of, decided before anything expensive starts: recipe, data set, network."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from shared import cifar10, recipes, sample
from shared.cifar10.dataset import Cifar10
from shared.class_names import Classes, check_same
from shared.errors import UsageError
from shared.recipes.base import contradiction
from shared.recipes.cifar10 import CifarRecipe
from shared.run import provenance
from shared.run import reproducibility as rounding
from shared.run.progress import refuse_less
from shared.system.atomic_files import write_atomic
from shared.system.paths import check_there
from shared.text import in_utf8, of_system
from tf_seresnet import devices
from tf_seresnet.options import RunConfig
from tf_seresnet.step.training_step import NetworkSpec

# What an option changes in a recipe, by the name that the option has in the namespace.
RECIPE_OPTIONS = tuple(
    (
        "depth variant epochs batch_size learning_rate scheduler milestones factors warm_up_epochs momentum "
        "weight_decay precision loss_scale seed steps_per_epoch"
    ).split()
)


def load_data(config: RunConfig, state: Optional[Dict[str, Any]] = None) -> Tuple[Cifar10, str]:
    """The data set and a line about where it came from.

    In this order: --data-path, the folder that the checkpoint's run used, ./cifar-10-batches-py, and where nobody has
    named data or weights the embedded sample. Raises UsageError where what is named is not there.
    """
    if config.data_path is not None:
        data = cifar10.load(config.data_path)
        return data, f"data: {data.name} from {data.path}"
    if state is not None:
        data = _trained_on(state["data"])
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


def _trained_on(stored: Dict[str, Any]) -> Cifar10:
    """The data set that a checkpoint names. The embedded sample is made again where its folder is gone."""
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
    recipe = recipe.override(**_given(config))
    return recipe.override(network=f"se_resnet{recipe.depth}")  # however the depth was chosen


def resumed_recipe(config: RunConfig, state: Dict[str, Any], data: Cifar10) -> CifarRecipe:
    """The recipe of the interrupted run, of which only the number of epochs may change.

    Raises UsageError where an option or the data set would make it another run.
    """
    if data.fingerprint != state["data"]["fingerprint"]:
        raise UsageError(
            f"{data.path} is not the data set that the run was trained on; give that one with --data-path, or start"
            " a new run with --checkpoint"
        )
    check_same(state["data"].get("classes"), Classes(data.label_names), data.path)
    refuse_less(state["progress"], config.epochs, config.max_steps)
    return CifarRecipe.from_json(state["recipe"]).resumed(_given(config), config.recipe)


def network(config: RunConfig, recipe: CifarRecipe, state: Optional[Dict[str, Any]], classes: int) -> NetworkSpec:
    """The network of the recipe, or the one that a checkpoint was made with; only its layer set can be chosen anew.

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
    """Raise UsageError where this many devices cannot run this network, or not continue the run of `state`."""
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


def resumption_remarks(state: Dict[str, Any], recipe: CifarRecipe, device: Any) -> List[str]:
    """What the user should know about how the continuation differs from the run that it continues."""
    before = CifarRecipe.from_json(state["recipe"]).schedule
    return [
        *recipe.schedule.prolonged(before, state["progress"]["epoch"]),
        *rounding.changes(state.get("arithmetic", {}), arithmetic(device)),
    ]


def _given(config: RunConfig) -> Dict[str, Any]:
    values = {name: getattr(config, name) for name in RECIPE_OPTIONS}
    return {name: value for name, value in values.items() if value is not None}


def versions() -> Dict[str, str]:
    """What the numbers depend on."""
    import tensorflow as tf

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


def write_config(
    folder: Path, config: RunConfig, recipe: CifarRecipe, spec: NetworkSpec, device: Any, data: Cifar10
) -> None:
    """config.json: everything that decided what this run does, as it was resolved."""
    content = {
        "command": provenance.command(),
        "commit": provenance.commit(),
        "recipe": recipe.to_json(),
        "learning_rate": recipe.schedule.describe(),
        "network": dataclasses.asdict(spec),
        "options": config.to_json(),
        "device": device.settings(),
        "global_batch_size": recipe.batch_size * device.count,
        "data": describe_data(data),
        "machine": provenance.machine(),
        "versions": versions(),
    }
    write_atomic(folder / "config.json", json.dumps(content, indent=2) + "\n")
