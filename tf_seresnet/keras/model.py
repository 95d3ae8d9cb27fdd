"""`tf_seresnet.network` as a `keras.Model`."""

from __future__ import annotations

import functools
from typing import Any, Tuple

from tf_seresnet import network
from tf_seresnet.keras.checkpoint import graph_variables
from tf_seresnet.keras.layers import KerasLayers, keras
from tf_seresnet.layers.initial_values import initial_value


def se_resnet(
    depth: int = 110,
    variant: str = "port",
    num_classes: int = 10,
    seed: int = 0,
    weight_decay: float = 0.0,
    input_shape: Tuple[int, int, int] = (32, 32, 3),
    stochastic_depth: bool = False,
) -> Any:
    """A `keras.Model` from normalised images [batch, *input_shape] to logits [batch, num_classes], float32.

    Its initial weights are those of a new graph with the same `seed`, bit for bit. `weight_decay` times half the sum of
    squares of all trainable variables is added to the loss (1e-4 in the documented recipe). With `stochastic_depth` it
    has a second input, the factors float32 [batch, blocks] of its residual branches. Raises UsageError for a variant or
    depth that does not exist, or without Keras 3.
    """
    images, factors = keras.Input(input_shape, name="images"), None
    if stochastic_depth:
        factors = keras.Input((network.STAGES * network.blocks_per_stage(depth, variant),), name="branch_factors")
    logits = network.se_resnet(images, KerasLayers(weight_decay, factors), depth, variant, num_classes)
    # The loss needs float32 logits under a mixed-precision policy; otherwise this changes nothing.
    logits = keras.layers.Activation("linear", dtype="float32", name="logits")(logits)
    model = keras.Model([images, factors] if stochastic_depth else images, logits, name=f"se_resnet{depth}")
    for name, variable in graph_variables(model).items():
        variable.assign(initial_value(name, tuple(variable.shape), seed))
    return model


# 3,504,422 trainable parameters in `port`, the original, 1.74 M in `paper`.
se_resnet110 = functools.partial(se_resnet, 110)
