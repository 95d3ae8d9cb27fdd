"""What a run says of itself: in its log, in config.json, in its checkpoints and in its record."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import torch
from torch import nn

from shared.recipes import document
from shared.recipes.imagenet import ImageNetRecipe
from shared.run import provenance, resumption
from torch_imagenet.distributed.restart import job_name
from torch_imagenet.networks.spec import parameters
from torch_imagenet.run_setup import RunSetup, TrainingSetup
from torch_imagenet.step.losses import smoothing_text
from torch_imagenet.step.training_step import TrainingStep, needs_host

# -- the log ---------------------------------------------------------------------------------------------------


def device_lines(setup: RunSetup) -> List[str]:
    """The device and what the user should know about it."""
    device = setup.device
    head = f"device: {device.kind}, {device.name}, precision {setup.precision.name}"
    return [head, *[f"note: {note}" for note in device.notes]]


def network_line(setup: RunSetup, network: nn.Module) -> str:
    """One line about the network."""
    return f"network: {setup.spec.text()}, {parameters(network):,} parameters"


def introduction(setup: TrainingSetup, step: TrainingStep) -> List[str]:
    """What is about to run, for the log."""
    recipe, plan = setup.recipe, setup.plan
    return [
        *device_lines(setup),
        network_line(setup, step.network),
        f"recipe: {recipe.name}, {recipe.epochs} epochs of {plan.steps_per_epoch} steps, batch {recipe.batch_size}"
        f" per device ({setup.global_batch_size} in all), image size {recipe.image_size}, learning rate"
        f" {recipe.schedule.describe()}",
        *[f"note: {note}" for note in _notes(setup, step)],
    ]


def _notes(setup: TrainingSetup, step: TrainingStep) -> List[str]:
    recipe, images = setup.recipe, setup.global_batch_size
    documented = next((line.strip() for line in document(recipe.name).splitlines() if "Documented:" in line), None)
    notes = [documented] if documented else []
    if recipe.devices > 1 and images != recipe.batch_size * recipe.devices:
        documented_images = recipe.batch_size * recipe.devices
        notes.append(
            f"the recipe's learning rate is for {recipe.devices} devices, {documented_images} images a step; here"
            f" it is {images}: --accumulate {recipe.devices} makes them the same"
        )
    more = (smoothing_text(recipe.label_smoothing, recipe.smoothing), needs_host(step))
    return [*notes, *(note for note in more if note), *recipe.schedule.remarks(), *resumption_notes(setup)]


def resumption_notes(setup: TrainingSetup) -> List[str]:
    """How the continuation of a resumed run differs from what the uninterrupted run would have been."""
    if setup.state is None:
        return []
    before, epoch = ImageNetRecipe.from_json(setup.state["recipe"]).schedule, setup.state["progress"]["epoch"]
    changes = resumption.rounding_changes(setup.state.get("arithmetic", {}), rounding(setup))
    return [*setup.recipe.schedule.prolonged(before, epoch), *changes]


def hyper_parameters(setup: TrainingSetup) -> Dict[str, Any]:
    """What TensorBoard shows beside the recipe."""
    return {
        "dataset": setup.data.content.name,
        "device": f"{setup.device.count} x {setup.device.name}",
        "global_batch_size": setup.global_batch_size,
        "memory_format": setup.memory_format,
    }


# -- config.json and checkpoints ------------------------------------------------------------------------------


def write_config(setup: RunSetup, folder: Path) -> None:
    """config.json of this run. Raises OSError."""
    provenance.write_config(
        folder,
        setup.recipe,
        {"job": job_name()},
        network=setup.spec.to_json(),
        options=setup.config.to_json(),
        device=setup.device.describe(),
        global_batch_size=setup.global_batch_size,
        data=_dataset(setup),
        versions=versions(),
    )


def for_checkpoint(setup: TrainingSetup) -> Dict[str, Any]:
    """What a checkpoint must say so that evaluation and resumption need nothing else."""
    described = setup.data.describe()
    return {
        "half": "torch_imagenet",
        "mode": setup.config.mode,
        "recipe": setup.recipe.to_json(),
        "network": setup.spec.to_json(),
        "data": {
            **{name: described[name] for name in ("name", "path", "fingerprint")},
            "order": setup.data.train.order,
            "classes": described["classes"],
        },
        "device": setup.device.describe(),
        "arithmetic": rounding(setup),
    }


def rounding(setup: TrainingSetup) -> Dict[str, Any]:
    """What decides how sums are rounded, besides the recipe; see `resumption.rounding_changes`."""
    return {
        "device": f"{setup.device.kind}, {setup.device.name}",
        "memory_format": setup.memory_format,
        "compiled": setup.config.compile,
        "threads": None if setup.device.asynchronous else torch.get_num_threads(),
        "torch": torch.__version__,
    }


# -- the record ------------------------------------------------------------------------------------------------


def for_record(setup: RunSetup, network: nn.Module) -> Dict[str, Any]:
    """What the record of every mode says about the run."""
    return {
        "network": setup.spec.name,
        "recipe": setup.recipe.name,
        "image_size": setup.recipe.image_size,
        "dataset": _dataset(setup),
        "device": setup.device.describe(),
        "machine": provenance.machine(),
        "precision": setup.precision.name,
        "parameters": parameters(network),
        "versions": versions(),
    }


def for_training_record(setup: TrainingSetup, network: nn.Module) -> Dict[str, Any]:
    """What the record of a training run says about what was decided."""
    return {
        **for_record(setup, network),
        "half": "torch_imagenet",
        "mode": setup.config.mode,
        "seed": setup.recipe.seed,
        "schedule": setup.recipe.schedule.describe(),
        "batch_size": setup.recipe.batch_size,
        "global_batch_size": setup.global_batch_size,
        "memory_format": setup.memory_format,
        "compiled": setup.config.compile,
    }


def _dataset(setup: RunSetup) -> Dict[str, Any]:
    return setup.data.describe() if setup.data is not None else {"name": "synthetic"}


def versions() -> Dict[str, str]:
    """What the numbers depend on."""
    import PIL

    return provenance.versions(torch=torch.__version__, numpy=np.__version__, pillow=PIL.__version__)
