"""What a run states of itself: config.json, the state of its checkpoints, its record, the first lines of its log."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any, Dict, List, Optional

import numpy as np

from shared import recipes
from shared.cifar10.dataset import Cifar10
from shared.metrics import Metrics
from shared.recipes.cifar10 import CifarRecipe
from shared.results import record as records
from shared.run import provenance, resumption
from shared.run.log import RunLog
from shared.run.loop import Run
from shared.text import in_utf8
from tf_seresnet.layers.counting import network_cost
from tf_seresnet.options import RECIPE_OPTIONS
from tf_seresnet.run.setup import RunSetup
from tf_seresnet.step.spec import NetworkSpec


def log_setup(log: RunLog, setup: RunSetup, left_out: int, folder: Optional[Path]) -> None:
    """Log what is about to run."""
    recipe, device, network = setup.recipe, setup.device, setup.network
    log.start(
        recipe.to_json(),
        layers=network.layers,
        dataset=setup.data.name,
        device=f"{device.count} x {device.name}",
        global_batch_size=setup.global_batch_size,
    )
    lines = [
        *device_lines(device),
        network_line(network),
        f"recipe: {recipe.name}, {recipe.epochs} epochs of {setup.steps_per_epoch} steps, batch {recipe.batch_size} per"
        f" device ({setup.global_batch_size} in all), learning rate {recipe.schedule.describe()}",
        *(["data: the training set is on the device"] if device.holds_training_set else []),
        *([f"steps of a session call: {setup.steps_per_call}"] if setup.steps_per_call > 1 else []),
        *([f"with: {', '.join(recipe.described())}"] if recipe.described() else []),
        *(f"note: {remark}" for remark in _remarks(setup)),
    ]
    if folder:
        lines.append(f"output: {folder}")
    if left_out:
        why = "this device wants one shape" if device.static_shapes else "they are fewer than the devices"
        lines.append(f"note: {why}; the last {left_out} images of an epoch's order are left out")
    for line in lines:
        log.line(line)


def device_lines(device: Any) -> List[str]:
    """The device and what the user should know about it."""
    several = f"{device.count} x " if device.count > 1 else ""
    compiled = ", compiled by XLA" if device.xla else ""
    head = f"device: {device.kind}, {several}{device.name}, precision {device.precision}{compiled}"
    return [head, *[f"note: {note}" for note in device.notes]]


def network_line(network: NetworkSpec) -> str:
    """One line about the network."""
    name = f"se_resnet{network.depth}, variant {network.variant}, layers {network.layers}"
    return f"network: {name}, {_parameters(network):,} trainable parameters"


def _remarks(setup: RunSetup) -> List[str]:
    """What the user should know about the schedule, and how a continuation differs from its run."""
    schedule, state = setup.recipe.schedule, setup.resumed_state
    lines = [*schedule.remarks(), *setup.recipe.without_effect(setup.config.given(RECIPE_OPTIONS))]
    faster = setup.device.bf16_speedup
    if faster and setup.config.precision is None:
        lines.append(f"this CPU has bfloat16 instructions: --precision bf16 trains about {faster:g} times as fast")
    if state:
        before = CifarRecipe.from_json(state["recipe"]).schedule
        lines += schedule.prolonged(before, state["progress"]["epoch"])
        lines += resumption.remarks(state, for_checkpoint(setup))
    return lines


def for_checkpoint(setup: RunSetup) -> Dict[str, Any]:
    """What a checkpoint must state so that evaluation and resumption need nothing else."""
    data = setup.data
    return {
        "recipe": setup.recipe.to_json(),
        "network": dataclasses.asdict(setup.network),
        "normalisation": dataclasses.asdict(setup.normalisation),
        "data": {"path": _path(data), "fingerprint": data.fingerprint, "classes": data.label_names},
        "device": setup.device.describe(),
        "arithmetic": _arithmetic(setup.device),
        "speed": {"machine": provenance.machine(), "steps_per_call": setup.steps_per_call},
    }


def write_config(setup: RunSetup, folder: Path) -> None:
    """Write config.json into the run's folder. Raises OSError."""
    provenance.write_config(
        folder,
        setup.recipe,
        {},
        network=dataclasses.asdict(setup.network),
        options=setup.config.to_json(),
        device=setup.device.settings(),
        global_batch_size=setup.global_batch_size,
        data=_dataset(setup.data),
        versions=_versions(setup.device),
    )


def build_record(setup: RunSetup, metrics: Optional[Metrics], checkpoint: str, **parts: Any) -> Dict[str, Any]:
    """result.json: what the setup decided, what was evaluated if anything was, and the `parts` of the mode."""
    classes = records.evaluated_classes(setup.evaluated_classes, setup.data.label_names)
    return records.build_record(
        half="tf_seresnet",
        mode=setup.config.mode,
        network=setup.recipe.network,
        recipe=setup.recipe.name,
        depth=setup.network.depth,
        variant=setup.network.variant,
        layers=setup.network.layers,
        dataset=_dataset(setup.data),
        device=setup.device.describe(),
        machine=provenance.machine(),
        precision=setup.device.precision,
        compiled=setup.device.xla or None,
        versions=_versions(setup.device),
        parameters=_parameters(setup.network),
        evaluation=None if metrics is None else {**records.evaluation_part(metrics, checkpoint), **classes},
        **parts,
    )


def of_training(setup: RunSetup, run: Run, metrics: Metrics, folder: Path) -> Dict[str, Any]:
    """result.json of a training, in a graph or through Keras."""
    return build_record(
        setup,
        metrics,
        str(folder / "checkpoints" / "last"),
        seed=setup.recipe.seed,
        schedule=setup.recipe.schedule.describe(),
        changes=recipes.changes(setup.recipe) or None,
        batch_size=setup.recipe.batch_size,
        global_batch_size=setup.global_batch_size,
        steps_per_call=setup.steps_per_call,
        **run.record(),
    )


def _dataset(data: Cifar10) -> Dict[str, Any]:
    return {
        "name": data.name,
        "path": _path(data),
        "train_images": len(data.train_images),
        "eval_images": len(data.test_images),
        "fingerprint": data.fingerprint,
        "classes": data.label_names,
    }


def _path(data: Cifar10) -> str:
    """Where the data set is, from whatever folder it is looked for."""
    return in_utf8(os.path.abspath(data.path))


def _arithmetic(device: Any) -> Dict[str, Any]:
    """What decides how sums are rounded, besides the recipe; see `shared.run.resumption`."""
    return {
        "device": f"{device.kind}, {device.name}",
        **device.rounding(),
        "xla": device.xla,
        **device.versions(),
        "revision_of_the_step": device.revision,
    }


def _versions(device: Any) -> Dict[str, str]:
    return provenance.versions(**device.versions(), numpy=np.__version__)


def _parameters(network: NetworkSpec) -> int:
    return network_cost(network.depth, network.variant, network.num_classes).parameters
