"""The default layer set: `tf.compat.v1` primitives that exist from TensorFlow 1.15 to 2.21.

It uses neither tf.layers, which Keras 3 removed, nor tf_slim and tflearn, which end at TensorFlow 2.12. Variable names,
their order and the arithmetic are those of `layers.slim`, so that each set restores the other's checkpoints.
"""

from __future__ import annotations

from typing import Any, Callable, List, Optional, Sequence, Tuple

import numpy as np
import tensorflow as tf

from tf_seresnet.network import BATCH_NORM_DECAY, BATCH_NORM_EPSILON, Layers

tf1 = tf.compat.v1


class CoreLayers(Layers):
    """Builds one network in the default graph; `reuse=True` shares the variables of one that it already has."""

    def __init__(self, reuse: bool = False) -> None:
        super().__init__()
        self._reuse = reuse
        self._batch_norms: List[Tuple[_BatchNormVariables, Any, Any]] = []  # with the batch's mean and variance
        self.branch_factors: Any = None  # float32 [batch, branches] of stochastic depth
        self.outputs: List[Tuple[str, Any]] = []  # of the layers with variables: (name prefix of the variables, output)

    def conv(self, x: Any, filters: int, kernel: int, strides: int = 1, bias: bool = True) -> Any:
        with self._scope("conv2d") as scope:
            weights = variable("kernel", (kernel, kernel, int(x.shape[-1]), filters))
            x = tf.nn.conv2d(x, weights, strides=[1, strides, strides, 1], padding="SAME")
            return self._record(scope.name, tf.nn.bias_add(x, variable("bias", (filters,))) if bias else x)

    def batch_norm(self, x: Any, training: Optional[bool]) -> Any:
        if training is None:
            raise ValueError("a graph is built either for training or for inference")
        with self._scope("BatchNorm") as scope:
            variables = _BatchNormVariables(scope.name, int(x.shape[-1]))
            averages = {} if training else {"mean": variables.moving_mean, "variance": variables.moving_variance}
            y, mean, variance = tf1.nn.fused_batch_norm(
                x, variables.gamma, variables.beta, epsilon=BATCH_NORM_EPSILON, is_training=training, **averages
            )
            if training:
                self._batch_norms.append((variables, mean, variance))
            return self._record(scope.name, y)

    def batch_statistics(self) -> List[Any]:
        """The batch's mean and variance, float32 [channels], of every batch normalisation in training mode."""
        return [tensor for _, mean, variance in self._batch_norms for tensor in (mean, variance)]

    def update_averages(self, batch_statistics: Sequence[Any], assign: Callable[[Any, Any], Any] = tf1.assign) -> Any:
        """Update the moving averages with `batch_statistics()`, or their means over the devices.

        `assign(variable, value)` returns the operation that sets a variable. All layers are computed as one vector, for
        an operator of a few channels costs its start.

        The mean is zero-debiased (Kingma and Ba, "Adam", arXiv 1412.6980, section 3): `biased` starts at zero and is
        divided by 1 - decay^steps. The arithmetic is that of TensorFlow's `assign_moving_average`, term for term.
        """
        if not self._batch_norms:
            return []
        own = [variables for variables, _, _ in self._batch_norms]
        sizes = [int(one.biased.shape[0]) for one in own]
        mean, variance = tf.concat(batch_statistics[::2], 0), tf.concat(batch_statistics[1::2], 0)
        old_biased, old_variance = (tf.concat(kind, 0) for kind in zip(*((o.biased, o.moving_variance) for o in own)))
        rate = tf.constant(1.0 - BATCH_NORM_DECAY, tf.float32)
        biased = old_biased - (old_biased - mean) * rate
        steps = [one.local_step + 1.0 for one in own]
        kept = 1.0 - rate
        weights = tf.stack([1.0 - tf.pow(kept, count) for count in steps])  # a vector's power rounds otherwise
        debiased = biased / tf.gather(weights, np.repeat(np.arange(len(own)), sizes))
        new_variance = old_variance - (old_variance - variance) * rate
        values = zip(*(tf.split(vector, sizes) for vector in (biased, debiased, new_variance)), steps)
        return [
            assign(variable, value)
            for one, new in zip(own, values)
            for variable, value in zip((one.biased, one.moving_mean, one.moving_variance, one.local_step), new)
        ]

    def dense(self, x: Any, units: int) -> Any:
        with self._scope("dense") as scope:
            return self._record(scope.name, tf.linalg.matmul(x, variable("kernel", (int(x.shape[-1]), units))))

    def global_average_pool(self, x: Any) -> Any:
        return tf.reduce_mean(x, axis=[1, 2])

    def relu(self, x: Any) -> Any:
        return tf.nn.relu(x)

    def gate(self, x: Any, excitation: Any) -> Any:
        return x * tf.reshape(tf.sigmoid(excitation), [-1, 1, 1, int(x.shape[-1])])

    def shortcut(self, x: Any, filters: int, strides: int) -> Any:
        new = filters - int(x.shape[-1])
        return tf.pad(x[:, ::strides, ::strides], [[0, 0], [0, 0], [0, 0], [new // 2, new - new // 2]])

    def branch(self, x: Any) -> Any:
        x = super().branch(x)
        if self.branch_factors is None:
            return x
        return x * tf.reshape(self.branch_factors[:, self.branches - 1], [-1, 1, 1, 1])

    def _record(self, name: str, output: Any) -> Any:
        self.outputs.append((name, output))
        return output

    def _scope(self, kind: str) -> Any:
        return tf1.variable_scope(self.next_name(kind), reuse=self._reuse or None)


class _BatchNormVariables:
    """The variables of one batch normalisation, in the order in which slim creates them."""

    def __init__(self, scope: str, channels: int) -> None:
        self.beta = variable("beta", (channels,))
        self.gamma = variable("gamma", (channels,))
        self.moving_mean = variable("moving_mean", (channels,), trainable=False)
        self.moving_variance = variable("moving_variance", (channels,), trainable=False)
        # slim opens a scope with the mean's full name inside the layer's own: BatchNorm/BatchNorm/moving_mean/biased.
        self.biased = variable(f"{scope}/moving_mean/biased", (channels,), trainable=False)
        self.local_step = variable(f"{scope}/moving_mean/local_step", (), trainable=False)


def variable(name: str, shape: Tuple[int, ...], trainable: bool = True) -> Any:
    """A float32 variable that starts at zero; `initial_values` fills it, so the graph needs no random operators."""
    return tf1.get_variable(name, shape, tf.float32, tf1.zeros_initializer(), trainable=trainable)
