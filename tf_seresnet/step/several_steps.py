"""Several steps in one session call: a loop inside the graph, so that the host is asked once for all of them."""

from __future__ import annotations

from typing import Any, Callable, List, Tuple

import tensorflow as tf

tf1 = tf.compat.v1


def repeated(step: Callable[[Any], Tuple[List[Any], List[Any]]], rates: Any, values: int) -> Any:
    """`step(rate)` for each of `rates`, float32 [steps]: its values, float32 [steps, values].

    `step` is built once, and its variables must be of the kind with `use_resource`. It returns the operations that must
    have ended before the next step begins, and its values, each float32 [].
    """
    steps = tf.size(rates)

    def body(number: Any, kept: Any) -> List[Any]:
        updates, own = step(rates[number])
        with tf.control_dependencies(updates):
            return [number + 1, kept.write(number, tf.stack(own))]

    kept = tf.TensorArray(tf.float32, steps, element_shape=(values,))
    loop = tf1.while_loop(lambda number, _: number < steps, body, [0, kept], parallel_iterations=1, back_prop=False)
    return loop[1].stack()
