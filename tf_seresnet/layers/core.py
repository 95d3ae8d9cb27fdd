"""Layers from primitives of `tf.compat.v1` that exist from TensorFlow 1.15 to 2.21: the default set.

No tf.layers, tf_slim or tflearn: the first ends with Keras 3, the others at TensorFlow 2.12. Variable names, their
order and the arithmetic are those of `layers.slim`, so that either set restores the other's checkpoints.
"""

from __future__ import annotations

from typing import Any, Callable, List, Optional, Sequence, Tuple

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
        self._observed: List[Tuple[_Statistics, Any, Any]] = []  # a training batch's mean and variance, by layer
        self.outputs: List[Tuple[str, Any]] = []  # of the layers with variables, by the prefix of the variables' names

    def conv(self, x: Any, filters: int, kernel: int, strides: int = 1, bias: bool = True) -> Any:
        with self._scope("conv2d") as scope:
            weights = _variable("kernel", (kernel, kernel, int(x.shape[-1]), filters))
            x = tf.nn.conv2d(x, weights, strides=[1, strides, strides, 1], padding="SAME")
            return self._noted(scope.name, tf.nn.bias_add(x, _variable("bias", (filters,))) if bias else x)

    def batch_norm(self, x: Any, training: Optional[bool]) -> Any:
        if training is None:
            raise ValueError("a graph is built either for training or for inference")
        with self._scope("BatchNorm") as scope:
            statistics = _Statistics(scope.name, int(x.shape[-1]))
            scale_and_shift = statistics.gamma, statistics.beta
            if not training:
                y, _, _ = tf1.nn.fused_batch_norm(
                    x,
                    *scale_and_shift,
                    mean=statistics.moving_mean,
                    variance=statistics.moving_variance,
                    epsilon=BATCH_NORM_EPSILON,
                    is_training=False,
                )
                return self._noted(scope.name, y)
            y, mean, variance = tf1.nn.fused_batch_norm(
                x, *scale_and_shift, epsilon=BATCH_NORM_EPSILON, is_training=True
            )
            self._observed.append((statistics, mean, variance))
            return self._noted(scope.name, y)

    def batch_statistics(self) -> List[Any]:
        """Mean and variance of this batch in every batch normalisation built for training, float32 [channels] each."""
        return [tensor for _, mean, variance in self._observed for tensor in (mean, variance)]

    def update_averages(self, batch_statistics: Sequence[Any], assign: Callable[[Any, Any], Any] = tf1.assign) -> Any:
        """The operations that take `batch_statistics`, of one device or of many, into the moving averages.

        `assign(variable, value)` gives the operation that sets a variable.
        """
        pairs = zip(self._observed, batch_statistics[::2], batch_statistics[1::2])
        return [
            update
            for (statistics, _, _), mean, variance in pairs
            for update in statistics.update(mean, variance, assign)
        ]

    def dense(self, x: Any, units: int) -> Any:
        with self._scope("dense") as scope:
            return self._noted(scope.name, tf.linalg.matmul(x, _variable("kernel", (int(x.shape[-1]), units))))

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

    def _noted(self, name: str, output: Any) -> Any:
        self.outputs.append((name, output))
        return output

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

    def update(self, mean: Any, variance: Any, assign: Callable[[Any, Any], Any]) -> List[Any]:
        """The moving averages' updates, to be run once, with the step that trains.

        The mean is zero-debiased as in Kingma and Ba (arXiv 1412.6980), section 3: `biased` starts at zero and is
        divided by 1 - decay^steps. The arithmetic is tf.train's assign_moving_average, term for term.
        """
        rate = tf.constant(1.0 - BATCH_NORM_DECAY, tf.float32)
        biased = self.biased - (self.biased - mean) * rate
        steps = self.local_step + 1.0
        debiased = biased / (1.0 - tf.pow(1.0 - rate, steps))
        new_variance = self.moving_variance - (self.moving_variance - variance) * rate
        # All are computed before one is set: what is read must be what was there before the step.
        with tf.control_dependencies([debiased, new_variance]):
            return [
                assign(self.biased, biased),
                assign(self.local_step, steps),
                assign(self.moving_mean, debiased),
                assign(self.moving_variance, new_variance),
            ]


def _variable(name: str, shape: Tuple[int, ...], trainable: bool = True) -> Any:
    """A float32 variable. It starts at zero: `initial_values` fills it, so that the graph holds no random operator."""
    return tf1.get_variable(name, shape, tf.float32, tf1.zeros_initializer(), trainable=trainable)


def l2_loss(variables: Sequence[Any]) -> Any:
    """Half the sum of squares of all variables, scalar float32, as `tf.nn.l2_loss` defines it."""
    return tf.add_n([tf.nn.l2_loss(variable) for variable in variables])
