"""The memory layout of a training, by a short probe where no table knows the faster one: it depends on the device."""

from __future__ import annotations

import statistics
import time
from dataclasses import replace
from typing import Dict, List, Tuple, TypeVar

import torch

from shared.errors import RunEnded
from torch_imagenet.devices.device import MEMORY_FORMATS
from torch_imagenet.distributed.process_group import ALONE
from torch_imagenet.input_pipeline.loader import Batch
from torch_imagenet.run.setup import RunSetup, TrainingSetup
from torch_imagenet.step.training_step import TrainingStep

WARM_UP, STEPS = 3, 10
Setup = TypeVar("Setup", bound=RunSetup)


def probed(setup: TrainingSetup) -> Tuple[TrainingSetup, List[str]]:
    """The setup with the faster layout, the same on all ranks, and lines that say what the probe has found.

    Nothing is probed where the device has a table, the user a request or a compiler its own order of loops; a resumed
    run keeps the layout that it began with, which decides how its sums are rounded.
    """
    if not setup.device.probes_layout or setup.config.memory_format is not None or setup.config.compile:
        return setup, []
    if setup.state is not None:
        began = setup.state.get("arithmetic", {}).get("memory_format")
        return with_layout(setup, began) if began in MEMORY_FORMATS else setup, []
    seconds = setup.ranks.broadcast_result(lambda: measured(setup))
    if not seconds:
        return setup, []
    best = min(seconds, key=seconds.__getitem__)
    times = ", ".join(f"{name} {1000 * value:.1f}" for name, value in seconds.items())
    return with_layout(setup, best), [f"layout: {best} ({times} ms a step of {STEPS}); --memory-format chooses another"]


def with_layout(setup: Setup, name: str) -> Setup:
    """The setup as if this layout had been requested."""
    return replace(setup, config=replace(setup.config, memory_format=name))


def measured(setup: RunSetup) -> Dict[str, float]:
    """The median seconds of a training step in each layout, on this device alone; nothing where memory runs out."""
    own = replace(setup, ranks=ALONE, config=replace(setup.config, sync_bn=False))
    try:
        return {name: _seconds(with_layout(own, name)) for name in MEMORY_FORMATS}
    except RunEnded:
        return {}  # the training's first step will say which batch fits


def _seconds(setup: RunSetup) -> float:
    recipe, device = setup.recipe, setup.device
    step = TrainingStep(setup.spec.make(), setup)
    shape = (recipe.batch_size, recipe.image_size, recipe.image_size, 3)
    images = torch.zeros(shape, dtype=torch.uint8, device=device.torch_device)
    batch = Batch(images, torch.zeros(shape[:1], dtype=torch.int64, device=device.torch_device), ())
    times = []
    for _ in range(WARM_UP + STEPS):
        device.synchronize()
        begin = time.perf_counter()
        step.run([batch], 0.0, 0, 0)
        device.synchronize()
        times.append(time.perf_counter() - begin)
    return statistics.median(times[WARM_UP:])
