"""The mode `summary`: what a network costs, and the floor of a training step. Nothing is computed for it."""

from __future__ import annotations

from typing import Any

from shared.roofline import Accelerator, describe
from shared.run.log import RunLog
from torch_imagenet import run_setup
from torch_imagenet.benchmark import CLASSES
from torch_imagenet.devices.device import open_device
from torch_imagenet.networks.cost import network_cost
from torch_imagenet.networks.spec import NetworkSpec


def summary(options: Any) -> None:
    """Print it. Raises UsageError for a network that does not exist."""
    device = open_device("cpu")
    recipe = run_setup.synthetic_recipe(options, device)
    spec = NetworkSpec.from_recipe(recipe, options.num_classes or CLASSES)
    accelerator = Accelerator.from_limits(options.peak_flops, options.memory_bandwidth)
    with RunLog(None) as log:
        log.line(f"network: {spec.text()}, {recipe.image_size} x {recipe.image_size} pixels")
        for line in describe(network_cost(spec, recipe.image_size), recipe.precision, recipe.batch_size, accelerator):
            log.line(line)
