"""The mode `summary`: what the network costs, and the floor of a training step. Needs neither TensorFlow nor data."""

from __future__ import annotations

from typing import Any

from shared import recipes
from shared.recipes.cifar10 import CifarRecipe
from shared.roofline import Accelerator, describe
from shared.run.log import RunLog
from tf_seresnet import devices
from tf_seresnet.layers.counting import network_cost

_FIELDS = ("depth", "variant", "batch_size", "precision")


def summary(options: Any) -> None:
    """Print it. Raises UsageError for a network that does not exist."""
    recipe = recipes.get(options.recipe or devices.documented_recipe(options.device))
    assert isinstance(recipe, CifarRecipe)  # the command line knows no others
    given = {name: getattr(options, name) for name in _FIELDS}
    recipe = recipe.override(**{name: value for name, value in given.items() if value is not None})
    cost = network_cost(recipe.depth, recipe.variant)
    accelerator = Accelerator.from_limits(options.peak_flops, options.memory_bandwidth)
    with RunLog(None) as log:
        log.line(f"network: se_resnet{recipe.depth}, variant {recipe.variant}, 10 classes, 32 x 32 pixels")
        for line in describe(cost, recipe.precision, recipe.batch_size, accelerator):
            log.line(line)
