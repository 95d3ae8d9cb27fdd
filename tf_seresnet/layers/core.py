"""Layers from primitives of `tf.compat.v1` that exist from TensorFlow 1.15 to 2.21: the default set.

No tf.layers, tf_slim or tflearn: the first ends with Keras 3, the others at TensorFlow 2.12. Variable names, their
order and the arithmetic are those of `layers.slim`, so that either set restores the other's checkpoints.
"""

from __future__ import annotations

from typing import Any, Optional, Sequence, Tuple

import tensorflow as tf

from tf_seresnet.layers.numbered import Numbered
from tf_seresnet.network import BATCH_NORM_DECAY, BATCH_NORM_EPSILON, Layers

tf1 = tf.compat.v1


class CoreLayers(Layers):
    """Builds into the default graph. One object builds one network: its layers are numbered as they are made.

    `reuse=True` shares the variables of a network that was built before in the same graph, as evaluation does.
    """

    def __init__(self, reuse: bool = False) -> None:
        self._names = Numbered()
        self._reuse = reuse

    def conv(self, x: Any, filters: int, kernel: int, strides: int = 1, bias: bool = True) -> Any:
        with self._scope("conv2d"):
            weights = _variable("kernel", (kernel, kernel, int(x.shape[-1]), filters))
            x = tf.nn.conv2d(x, weights, strides=[1, strides, strides, 1], padding="SAME")
            return tf.nn.bias_add(x, _variable("bias", (filters,))) if bias else x

    def batch_norm(self, x: Any, training: Optional[bool]) -> Any:
        if training is None:
            raise ValueError("a graph is built either for training or for inference")
        with self._scope("BatchNorm") as scope:
            statistics = _Statistics(scope.name, int(x.shape[-1]))
            scale_and_shift = statistics.gamma, statistics.beta
            if not training:
                y, _, _ = tf1.nn.fused_batch_norm(
                    x, *scale_and_shift, mean=statistics.moving_mean, variance=statistics.moving_variance,
                    epsilon=BATCH_NORM_EPSILON, is_training=False,
                )  # fmt: skip
                return y
            y, mean, variance = tf1.nn.fused_batch_norm(
                x, *scale_and_shift, epsilon=BATCH_NORM_EPSILON, is_training=True
            )
            statistics.update(mean, variance)
            return y

    def dense(self, x: Any, units: int) -> Any:
        with self._scope("dense"):
            return tf.linalg.matmul(x, _variable("kernel", (int(x.shape[-1]), units)))

    def global_average_pool(self, x: Any) -> Any:
        return tf.reduce_mean(x, axis=[1, 2])

    def relu(self, x: Any) -> Any:
        return tf.nn.relu(x)

    def gate(self, x: Any, excitation: Any) -> Any:
        return x * tf.reshape(tf.sigmoid(excitation), [-1, 1, 1, int(x.shape[-1])])

    def add(self, x: Any, y: Any) -> Any:
        return x + y

    def shortcut(self, x: Any, filters: int, strides: int) -> Any:
        new = filters - int(x.shape[-1])
        return tf.pad(x[:, ::strides, ::strides], [[0, 0], [0, 0], [0, 0], [new // 2, new - new // 2]])

    def _scope(self, kind: str) -> Any:
        return tf1.variable_scope(self._names.name(kind), reuse=self._reuse or None)


class _Statistics:
    """The variables of one batch normalisation, in the order in which slim makes them."""

    def __init__(self, scope: str, channels: int) -> None:
        self.beta = _variable("beta", (channels,))
        self.gamma = _variable("gamma", (channels,))
        self.moving_mean = _variable("moving_mean", (channels,), trainable=False)
        self.moving_variance = _variable("moving_variance", (channels,), trainable=False)
        # slim opens a scope named after the mean's full name inside its own: BatchNorm/BatchNorm/moving_mean/biased.
        self.biased = _variable(f"{scope}/moving_mean/biased", (channels,), trainable=False)
        self.local_step = _variable(f"{scope}/moving_mean/local_step", (), trainable=False)

    def update(self, mean: Any, variance: Any) -> None:
        """Add the moving averages' updates to UPDATE_OPS: they run once, with the step that trains.

        The mean is zero-debiased as in Kingma and Ba (arXiv 1412.6980), section 3: `biased` starts at zero and is
        divided by 1 - decay^steps. The arithmetic is tf.train's assign_moving_average, term for term.
        """
        rate = tf.constant(1.0 - BATCH_NORM_DECAY, tf.float32)
        biased = tf1.assign_sub(self.biased, (self.biased - mean) * rate)
        steps = tf1.assign_add(self.local_step, 1.0)
        debiased = biased / (1.0 - tf.pow(1.0 - rate, steps))
        for update in (
            tf1.assign(self.moving_mean, debiased),
            tf1.assign_sub(self.moving_variance, (self.moving_variance - variance) * rate),
        ):
            tf1.add_to_collection(tf1.GraphKeys.UPDATE_OPS, update)


def _variable(name: str, shape: Tuple[int, ...], trainable: bool = True) -> Any:
    """A float32 variable. It starts at zero: `initial_values` fills it, so that the graph holds no random operator."""
    return tf1.get_variable(name, shape, tf.float32, tf1.zeros_initializer(), trainable=trainable)


def l2_loss(variables: Sequence[Any]) -> Any:
    """Half the sum of squares of all variables, scalar float32, as `tf.nn.l2_loss` defines it."""
    return tf.add_n([tf.nn.l2_loss(variable) for variable in variables])
