"""The variables of the default graph: which are the network's, and how they get values."""

from __future__ import annotations

from typing import Any, Dict, List

import numpy as np
import tensorflow as tf

from tf_seresnet.layers.initial_values import initial_value

tf1 = tf.compat.v1


def model_variables() -> List[Any]:
    """The network's own variables in the default graph: weights and moving statistics, no optimizer state."""
    trainable = {variable.op.name for variable in tf1.trainable_variables()}
    statistics = ("moving_mean", "moving_variance", "biased", "local_step")
    return [
        variable
        for variable in tf1.global_variables()
        if variable.op.name in trainable or variable.op.name.rsplit("/", 1)[-1] in statistics
    ]


def initialise(session: Any, seed: int) -> None:
    """Give every variable its first value; the network's come from `initial_values`, the same on every TensorFlow."""
    session.run(tf1.global_variables_initializer())
    load_values(session, {v.op.name: initial_value(v.op.name, v.shape.as_list(), seed) for v in model_variables()})


def load_values(session: Any, values: Dict[str, np.ndarray]) -> None:
    """Assign by name, through the operators that the variables already have: nothing is added to the graph."""
    copies = [
        (copy, values[variable.op.name])
        for variable in tf1.global_variables()
        if variable.op.name in values
        for copy in tf.distribute.get_strategy().experimental_local_results(variable)  # one on each device
    ]
    session.run([copy.initializer for copy, _ in copies], {copy.initializer.inputs[1]: value for copy, value in copies})


def parameters() -> int:
    """Trainable parameters in the default graph."""
    return sum(int(np.prod(variable.shape.as_list())) for variable in tf1.trainable_variables())
