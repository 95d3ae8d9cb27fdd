"""The mode `summary`: the cost of the network and the roofline of a training step, without TensorFlow or data."""

from __future__ import annotations

from shared import recipes
from shared.recipes.cifar10 import CifarRecipe
from shared.roofline import describe
from shared.run.log import RunLog
from tf_seresnet import devices
from tf_seresnet.layers.counting import network_cost
from tf_seresnet.options import RunConfig

_FIELDS = ("depth", "variant", "batch_size", "precision")


def summary(config: RunConfig) -> None:
    """Log the summary. Raises UsageError for a network that does not exist."""
    recipe = recipes.get(config.recipe or devices.documented_recipe(config.device))
    assert isinstance(recipe, CifarRecipe)  # the command line knows no others
    given = {name: getattr(config, name) for name in _FIELDS}
    recipe = recipe.override(**{name: value for name, value in given.items() if value is not None})
    cost = network_cost(recipe.depth, recipe.variant)
    with RunLog(None) as log:
        log.line(f"network: se_resnet{recipe.depth}, variant {recipe.variant}, 10 classes, 32 x 32 pixels")
        for line in describe(cost, recipe.precision, recipe.batch_size, config.accelerator):
            log.line(line)
