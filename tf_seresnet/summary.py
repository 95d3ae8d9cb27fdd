"""The mode `summary`: the cost of the network and the roofline of a training step, without TensorFlow or data."""

from __future__ import annotations

from shared.roofline import describe
from shared.run.log import RunLog
from tf_seresnet.layers.counting import network_cost
from tf_seresnet.options import RunConfig


def summary(config: RunConfig) -> None:
    """Log the summary. Raises UsageError for a network that does not exist."""
    recipe = config.named_recipe().override(**config.given(("depth", "variant", "batch_size", "precision")))
    cost = network_cost(recipe.depth, recipe.variant)
    with RunLog(None) as log:
        for note in config.command_notes:
            log.line(note)
        log.line(f"network: se_resnet{recipe.depth}, variant {recipe.variant}, 10 classes, 32 x 32 pixels")
        for line in describe(cost, recipe.precision, recipe.batch_size, config.accelerator):
            log.line(line)
