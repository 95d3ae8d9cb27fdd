"""The documented layer set: tf-slim, tflearn and tf.layers, as in the original's seresnetv2.py.

From TensorFlow 2.13 on tf_slim's batch_norm and `import tflearn` fail, and from 2.16 on `tf.layers` is gone.
"""

from __future__ import annotations

from typing import Any, Callable, List, Optional, Sequence

import tensorflow as tf

from shared.errors import UsageError
from tf_seresnet.layers.core import CoreLayers
from tf_seresnet.network import BATCH_NORM_DECAY, BATCH_NORM_EPSILON

tf1 = tf.compat.v1


class SlimLayers(CoreLayers):
    """`CoreLayers` with layers of the three packages. Raises UsageError where TensorFlow is too new, or one missing."""

    def __init__(self, reuse: bool = False) -> None:
        super().__init__(reuse)
        try:
            if tuple(map(int, tf.__version__.split(".")[:2])) > (2, 12):
                raise ImportError(f"this is TensorFlow {tf.__version__}")
            # Importing tflearn creates a variable in the default graph: give it a graph that is thrown away.
            with tf.Graph().as_default():
                import tf_slim
                from tflearn.layers.conv import global_avg_pool
        except ImportError as error:
            raise UsageError(
                f"--layers slim needs TensorFlow 2.12 or older, tf-slim 1.1.0 and tflearn 0.5.0 ({error}); use --layers"
                " core, the same network with the same checkpoints"
            ) from error
        self._slim = tf_slim
        self._global_avg_pool = global_avg_pool

    def conv(self, x: Any, filters: int, kernel: int, strides: int = 1, bias: bool = True) -> Any:
        return self._layer("conv2d", tf1.layers.conv2d, x, filters, kernel, strides, padding="same", use_bias=bias)

    def batch_norm(self, x: Any, training: Optional[bool]) -> Any:
        name = self.next_name("BatchNorm")
        y = self._slim.batch_norm(
            x,
            decay=BATCH_NORM_DECAY,
            epsilon=BATCH_NORM_EPSILON,
            center=True,
            scale=True,
            zero_debias_moving_mean=True,
            is_training=training,
            scope=name,
            reuse=self._reuse or None,
        )
        return self._record(name, y)

    def batch_statistics(self) -> List[Any]:
        """Empty: slim does not expose them, so it trains on one device only."""
        return []

    def update_averages(self, batch_statistics: Sequence[Any], assign: Callable[[Any, Any], Any] = tf1.assign) -> Any:
        return tf1.get_collection(tf1.GraphKeys.UPDATE_OPS)

    def dense(self, x: Any, units: int) -> Any:
        return self._layer("dense", tf1.layers.dense, x, units, use_bias=False)

    def global_average_pool(self, x: Any) -> Any:
        return self._global_avg_pool(x)

    def _layer(self, kind: str, function: Callable[..., Any], *arguments: Any, **settings: Any) -> Any:
        """A layer of tf.layers under the next name of its kind."""
        name = self.next_name(kind)
        settings.update(kernel_initializer=tf1.zeros_initializer(), name=name, reuse=self._reuse or None)
        return self._record(name, function(*arguments, **settings))
