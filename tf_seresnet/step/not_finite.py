"""Where in a network a number is not finite. It is searched only after something has failed."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple

import tensorflow as tf

from shared.run.divergence import first_not_finite, with_ranges

tf1 = tf.compat.v1


def in_variables(session: Any, variables: List[Any]) -> str:
    """The first of the moving statistics, else of the other `variables`, that is not finite; see `first_not_finite`."""
    ordered = sorted(variables, key=lambda variable: bool(variable.trainable))  # otherwise as they were created
    return first_not_finite(_values(session, {variable.op.name: variable for variable in ordered}))


def layer_of(session: Any, outputs: List[Tuple[str, Any]], feed: Dict[Any, Any]) -> Optional[str]:
    """The first of the layers (name, output) whose output is not finite in this forward pass, for a message.

    It names the ranges of the layer's variables. None where every output is finite. Adds operators to the graph.
    """
    finite = session.run([tf.reduce_all(tf.math.is_finite(output)) for _, output in outputs], feed)
    failed = [name for (name, _), is_finite in zip(outputs, finite) if not is_finite]
    if not failed:
        return None
    prefix = failed[0] + "/"
    own = {
        variable.op.name[len(prefix) :]: variable
        for variable in tf1.global_variables()
        if variable.op.name.startswith(prefix) and "/" not in variable.op.name[len(prefix) :]
    }
    return with_ranges(failed[0], _values(session, own))


def _values(session: Any, variables: Dict[str, Any]) -> List[Tuple[str, Any]]:
    return list(zip(variables, session.run(list(variables.values()))))
