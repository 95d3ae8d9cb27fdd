"""The variables of the default graph: which are the network's, how they get values, which are not finite."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import tensorflow as tf

from shared.run.divergence import first_not_finite, with_ranges
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


def initialise(session: Any, seed: int, zeros: Sequence[str] = ()) -> None:
    """Initialise every variable; the network's values come from `initial_values`, the same on every TensorFlow.

    Variables with the names `zeros` begin as zeros instead.
    """
    values = {v.op.name: initial_value(v.op.name, v.shape.as_list(), seed) for v in model_variables()}
    values.update({name: np.zeros_like(values[name]) for name in zeros})
    # In one session call, for each first call of its kind takes seconds for a deep network.
    session.run(tf1.global_variables_initializer(), {copy.initializer.inputs[1]: value for copy, value in _in(values)})


def load_values(session: Any, values: Dict[str, np.ndarray]) -> None:
    """Assign by name through the variables' own initialisers: nothing is added to the graph."""
    copies = _in(values)
    session.run([copy.initializer for copy, _ in copies], {copy.initializer.inputs[1]: value for copy, value in copies})


def _in(values: Dict[str, np.ndarray]) -> List[Tuple[Any, np.ndarray]]:
    """The variables with these names, on every device, each with its value."""
    return [
        (copy, values[variable.op.name])
        for variable in tf1.global_variables()
        if variable.op.name in values
        for copy in tf.distribute.get_strategy().experimental_local_results(variable)
    ]


def not_finite(session: Any, variables: List[Any]) -> str:
    """The first of the moving statistics, else of the other `variables`, that is not finite; see `first_not_finite`."""
    ordered = sorted(variables, key=lambda variable: bool(variable.trainable))  # otherwise as they were created
    return first_not_finite(zip([variable.op.name for variable in ordered], session.run(ordered)))


def layer_not_finite(session: Any, outputs: List[Tuple[str, Any]], feed: Dict[Any, Any]) -> Optional[str]:
    """The first layer (name, output) with an output that is not finite, and its variables' ranges, for a message.

    None if all are finite. Adds operators to the graph.
    """
    finite = session.run([tf.reduce_all(tf.math.is_finite(output)) for _, output in outputs], feed)
    layer = next((name for (name, _), is_finite in zip(outputs, finite) if not is_finite), None)
    if layer is None:
        return None
    own = [variable for variable in tf1.global_variables() if variable.op.name.rpartition("/")[0] == layer]
    return with_ranges(layer, zip([variable.op.name.rpartition("/")[2] for variable in own], session.run(own)))
