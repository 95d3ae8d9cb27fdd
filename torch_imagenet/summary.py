"""The mode `summary`: the cost of the network and the roofline of a training step. No network is run."""

from __future__ import annotations

from shared.roofline import describe
from shared.run.log import RunLog
from torch_imagenet.benchmark import CLASSES
from torch_imagenet.devices.device import open_device
from torch_imagenet.networks.cost import network_cost
from torch_imagenet.networks.spec import NetworkSpec
from torch_imagenet.options import RunConfig
from torch_imagenet.run.recipe import choose_recipe


def summary(config: RunConfig) -> None:
    """Print it. Raises UsageError for a network that does not exist."""
    recipe = choose_recipe(config, open_device("cpu"))
    spec = NetworkSpec.from_recipe(recipe, config.num_classes or CLASSES)
    with RunLog(None) as log:
        for note in config.command_notes:
            log.line(note)
        log.line(f"network: {spec.text()}, {recipe.image_size} x {recipe.image_size} pixels")
        cost = network_cost(spec, recipe.image_size)
        for line in describe(cost, recipe.precision, recipe.batch_size, config.accelerator):
            log.line(line)
