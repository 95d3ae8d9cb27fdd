"""What TensorFlow actually does with a session configuration.

TensorFlow silently ignores a graph rewrite that its build or the machine does not support. So a rewrite is tried on a
small graph and the rewritten graph is inspected.
"""

from __future__ import annotations

from typing import Any, Optional, Sequence, Set, Tuple


def rewritten(config: Any) -> Tuple[Set[str], Set[str]]:
    """Data types and operation types in the graph that TensorFlow runs under `config`, for a small network."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default():
        x = v1.placeholder(tf.float32, [8, 8, 8, 16])
        kernel = tf.fill([3, 3, 16, 16], 0.01) * v1.placeholder_with_default(1.0, [])
        y = tf.nn.relu(tf.nn.conv2d(x, kernel, [1, 1, 1, 1], "SAME"))
        y = tf.reduce_sum(tf.nn.relu(tf.nn.conv2d(y, kernel, [1, 1, 1, 1], "SAME")))
        fetches = [y] + v1.gradients(y, [kernel])
        metadata = v1.RunMetadata()
        options = v1.RunOptions(output_partition_graphs=True)
        with v1.Session(config=config) as session:
            session.run(fetches, {x: [[[[1.0] * 16] * 8] * 8] * 8}, options=options, run_metadata=metadata)
    nodes = [node for graph in metadata.partition_graphs for node in graph.node]
    functions = [function for graph in metadata.partition_graphs for function in graph.library.function]
    nodes += [node for function in functions for node in function.node_def]
    types = {tf.as_dtype(value.type).name for node in nodes for value in node.attr.values() if value.type}
    return types, {node.op for node in nodes}


def first_field(names: Sequence[str]) -> Optional[str]:
    """The first of these RewriterConfig fields that exists in this TensorFlow; None if none does."""
    from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig

    return next((name for name in names if name in RewriterConfig.DESCRIPTOR.fields_by_name), None)


def switch(rewrite_options: Any, field: str, on: bool) -> None:
    """Set a field of a RewriterConfig to ON or OFF."""
    from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig

    setattr(rewrite_options, field, RewriterConfig.ON if on else RewriterConfig.OFF)
