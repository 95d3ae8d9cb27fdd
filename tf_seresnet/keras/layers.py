"""Layers of a `keras.Model` that agree with `layers.core`, from `keras.ops` alone: JAX or torch loads no TensorFlow."""

from __future__ import annotations

from typing import Any, Dict, Optional, Tuple

import numpy as np

from tf_seresnet.devices.keras_backend import load
from tf_seresnet.network import BATCH_NORM_DECAY, BATCH_NORM_EPSILON, Layers

load()  # raises UsageError where it is missing
import keras  # noqa: E402

ops = keras.ops
_registered = keras.saving.register_keras_serializable(package="tf_seresnet")

# First float32(1 - decay), then 1 minus that: the graph's constants, with the graph's rounding.
_RATE = np.float32(1.0 - BATCH_NORM_DECAY)
_DECAY = np.float32(1.0) - _RATE


class KerasLayers(Layers):
    """Builds one functional model and numbers its layers in the order of creation.

    Weights start at zero; `tf_seresnet.keras.model` fills them with the graph's initial values. `weight_decay` times
    half the sum of squares of every trainable variable (`tf.nn.l2_loss`) is added to the model's losses.
    `branch_factors` [batch, blocks] multiply the residual branches (stochastic depth).
    """

    def __init__(self, weight_decay: float = 0.0, branch_factors: Any = None) -> None:
        super().__init__()
        self._branch_factors = branch_factors
        self._regularizer = keras.regularizers.L2(weight_decay / 2) if weight_decay else None
        self._kernel = {"kernel_initializer": "zeros", "kernel_regularizer": self._regularizer}

    def conv(self, x: Any, filters: int, kernel: int, strides: int = 1, bias: bool = True) -> Any:
        options = {"use_bias": bias, "bias_regularizer": self._regularizer, **self._kernel}
        name = self.next_name("conv2d")
        return keras.layers.Conv2D(filters, kernel, strides, "same", "channels_last", name=name, **options)(x)

    def batch_norm(self, x: Any, training: Optional[bool]) -> Any:
        layer = BatchNorm(self._regularizer, name=self.next_name("BatchNorm"))
        return layer(x) if training is None else layer(x, training=training)

    def dense(self, x: Any, units: int) -> Any:
        return keras.layers.Dense(units, use_bias=False, name=self.next_name("dense"), **self._kernel)(x)

    def global_average_pool(self, x: Any) -> Any:
        name = self.next_name("global_average_pool")
        return keras.layers.GlobalAveragePooling2D(data_format="channels_last", name=name)(x)

    def relu(self, x: Any) -> Any:
        return keras.layers.Activation("relu", name=self.next_name("relu"))(x)

    def gate(self, x: Any, excitation: Any) -> Any:
        return Gate(name=self.next_name("gate"))([x, excitation])

    def add(self, x: Any, y: Any) -> Any:
        return keras.layers.Add(name=self.next_name("add"))([x, y])

    def branch(self, x: Any) -> Any:
        x = super().branch(x)
        if self._branch_factors is None:
            return x
        return BranchFactor(self.branches - 1, name=self.next_name("branch_factor"))([x, self._branch_factors])

    def shortcut(self, x: Any, filters: int, strides: int) -> Any:
        return Shortcut(filters, strides, name=self.next_name("shortcut"))(x)


@_registered
class BatchNorm(keras.layers.Layer):
    """Batch normalisation over [batch, height, width], with the moving averages of fused_batch_norm and tf-slim.

    Unlike in `keras.layers.BatchNormalization`, the moving mean is zero-debiased (weights `biased`, `local_step`), and
    the moving variance uses the sample variance with Bessel's correction. It computes in float32 under every
    mixed-precision policy. A frozen layer (`trainable=False`) uses its moving averages, as Keras's own does.
    """

    def __init__(self, regularizer: Any = None, **settings: Any) -> None:
        # Without autocast, float32 images reach the first layer unrounded and no statistic is rounded to float16.
        super().__init__(autocast=False, **settings)
        self.regularizer = keras.regularizers.get(regularizer)

    def build(self, input_shape: Tuple[Optional[int], ...]) -> None:
        channels = (input_shape[-1],)
        self.beta = self._weight("beta", channels, "zeros", regularizer=self.regularizer)
        self.gamma = self._weight("gamma", channels, "ones", regularizer=self.regularizer)
        self.moving_mean = self._weight("moving_mean", channels, "zeros", trainable=False)
        self.moving_variance = self._weight("moving_variance", channels, "ones", trainable=False)
        self.biased = self._weight("biased", channels, "zeros", trainable=False)
        self.local_step = self._weight("local_step", (), "zeros", trainable=False)

    def _weight(self, name: str, shape: Tuple[Any, ...], initializer: str, **settings: Any) -> Any:
        return self.add_weight(shape, initializer, name=name, autocast=False, **settings)

    def call(self, inputs: Any, training: Optional[bool] = None) -> Any:
        x = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        if training and self.trainable:
            mean = ops.mean(x, axis=(0, 1, 2))
            # Two passes: E[x^2] - E[x]^2 loses too many digits in float32.
            variance = ops.mean(ops.square(x - mean), axis=(0, 1, 2))
            self._update(x, ops.stop_gradient(mean), ops.stop_gradient(variance))
        else:
            mean, variance = ops.cast(self.moving_mean, x.dtype), ops.cast(self.moving_variance, x.dtype)
        scale = ops.rsqrt(variance + BATCH_NORM_EPSILON) * ops.cast(self.gamma, x.dtype)
        return ops.cast((x - mean) * scale + ops.cast(self.beta, x.dtype), self.compute_dtype)

    def _update(self, x: Any, mean: Any, variance: Any) -> None:
        """Update the moving averages with one batch's statistics, term for term as `layers.core` does."""
        batch, height, width = ops.shape(x)[:3]
        count = ops.cast(batch * height * width, x.dtype)
        variance = variance * (count / ops.maximum(count - 1, 1))
        biased = self.biased - (self.biased - mean) * _RATE
        steps = self.local_step + 1
        debiased = biased / (1 - ops.power(_DECAY, steps))
        self.biased.assign(biased)
        self.local_step.assign(steps)
        self.moving_mean.assign(debiased)
        self.moving_variance.assign(self.moving_variance - (self.moving_variance - variance) * _RATE)

    def compute_output_shape(self, input_shape: Tuple[Optional[int], ...]) -> Tuple[Optional[int], ...]:
        return input_shape

    def get_config(self) -> Dict[str, Any]:
        return {**super().get_config(), "regularizer": keras.regularizers.serialize(self.regularizer)}


@_registered
class Gate(keras.layers.Layer):
    """x [batch, height, width, channels] times sigmoid(excitation [batch, channels])."""

    def call(self, inputs: Any) -> Any:
        x, excitation = inputs
        return x * ops.sigmoid(excitation)[:, None, None, :]

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape[0]


@_registered
class BranchFactor(keras.layers.Layer):
    """x [batch, height, width, channels] times the column `block` of factors [batch, blocks]."""

    def __init__(self, block: int, **settings: Any) -> None:
        super().__init__(**settings)
        self.block = block

    def call(self, inputs: Any) -> Any:
        x, factors = inputs
        return x * factors[:, self.block, None, None, None]

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape[0]

    def get_config(self) -> Dict[str, Any]:
        return {**super().get_config(), "block": self.block}


@_registered
class Shortcut(keras.layers.Layer):
    """Every `strides`-th pixel, zeros for the new channels (He et al. 2015, option A)."""

    def __init__(self, filters: int, strides: int, **settings: Any) -> None:
        super().__init__(**settings)
        self.filters = filters
        self.strides = strides

    def call(self, inputs: Any) -> Any:
        new = self.filters - inputs.shape[-1]
        x = inputs[:, :: self.strides, :: self.strides]
        return ops.pad(x, [[0, 0], [0, 0], [0, 0], [new // 2, new - new // 2]])

    def compute_output_shape(self, input_shape: Any) -> Any:
        batch, height, width, _ = input_shape
        return batch, -(-height // self.strides), -(-width // self.strides), self.filters

    def get_config(self) -> Dict[str, Any]:
        return {**super().get_config(), "filters": self.filters, "strides": self.strides}
