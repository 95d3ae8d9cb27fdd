"""`layers.core` with the 1x1 convolutions of a training step as matrix products, and gates inside of them.

For a CPU, where the step is bound by passes over feature maps and the gradient of a 1x1 kernel is slow. A gated 1x1
convolution is (u W + b) * s with one s per image and channel, which is u (W * s) + b * s: the gate multiplies the small
kernel in place of the map, and since a mean is linear, the squeeze reads u, which has fewer channels. What the gate
then costs forwards and backwards is a product per image; no map of the output is read or written for it.

Variables, their names and the function are those of `layers.core`; results differ by rounding.
"""

from __future__ import annotations

from typing import Any, Tuple

import tensorflow as tf

from tf_seresnet.layers.core import CoreLayers, variable
from tf_seresnet.network import excitation

tf1 = tf.compat.v1
_BIAS_GRADIENT = "BiasAddGradientAsProduct"


class ProductLayers(CoreLayers):
    """`CoreLayers` for the training step on a CPU. Feature maps float32 [batch, height, width, channels]."""

    def conv(self, x: Any, filters: int, kernel: int, strides: int = 1, bias: bool = True) -> Any:
        with tf1.get_default_graph().gradient_override_map({"BiasAdd": _BIAS_GRADIENT}):
            return self._conv(x, filters, kernel, strides, bias)

    def _conv(self, x: Any, filters: int, kernel: int, strides: int, bias: bool) -> Any:
        if kernel > 1 or strides > 1:
            return super().conv(x, filters, kernel, strides, bias)
        height, width, channels = x.shape.as_list()[1:]
        with self._scope("conv2d") as scope:
            y = tf.linalg.matmul(tf.reshape(x, [-1, channels]), _kernel(channels, filters))
            y = tf.nn.bias_add(y, variable("bias", (filters,))) if bias else y
            return self._record(scope.name, tf.reshape(y, [-1, height, width, filters]))

    def gated_conv(self, x: Any, filters: int, kernel: int, strides: int = 1) -> Any:
        height, width, channels = x.shape.as_list()[1:]
        # It pays where an image's kernel is smaller than its map, and the squeeze not of more channels than before.
        if kernel > 1 or strides > 1 or channels > min(filters, height * width - 1):
            return super().gated_conv(x, filters, kernel, strides)
        with self._scope("conv2d") as scope:
            weights, bias = _kernel(channels, filters), variable("bias", (filters,))
        squeezed = tf.linalg.matmul(self.global_average_pool(x), weights) + bias
        gate = tf.sigmoid(excitation(squeezed, self, filters))
        y = tf.linalg.matmul(tf.reshape(x, [-1, height * width, channels]), weights * gate[:, None, :])
        return self._record(scope.name, tf.reshape(y + (bias * gate)[:, None, :], [-1, height, width, filters]))

    def global_average_pool(self, x: Any) -> Any:
        # Not reduce_mean: its gradient divides the whole map, this one's the sums.
        return tf.reduce_sum(x, axis=[1, 2]) * (1.0 / (int(x.shape[1]) * int(x.shape[2])))


@tf.RegisterGradient(_BIAS_GRADIENT)
def _bias_gradient(operation: Any, gradient: Any) -> Tuple[Any, Any]:
    """The gradient of BiasAdd with the sums as a product with ones; in bf16 TensorFlow's own takes up to five times."""
    rows = tf.reshape(gradient, [-1, int(gradient.shape[-1])])
    return gradient, tf.reshape(tf.linalg.matmul(tf.fill([1, tf.shape(rows)[0]], 1.0), rows), [-1])


def _kernel(channels: int, filters: int) -> Any:
    """The kernel of a 1x1 convolution, [channels, filters]; its variable has the shape of a convolution's."""
    return tf.reshape(variable("kernel", (1, 1, channels, filters)), [channels, filters])
