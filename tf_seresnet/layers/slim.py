"""The documented stack: tf-slim, tflearn and tf.layers, as the original's seresnetv2.py used them.

Runs from TensorFlow 1.15 to 2.12. From 2.13 on tf_slim's batch_norm and `import tflearn` fail, from 2.16 on `tf.layers`
is gone, so above 2.12 this set is refused in one line instead of failing somewhere inside.
"""

from __future__ import annotations

from typing import Any, Callable, List, Optional, Sequence

import tensorflow as tf

from shared.errors import UsageError
from tf_seresnet.layers.core import CoreLayers
from tf_seresnet.network import BATCH_NORM_DECAY, BATCH_NORM_EPSILON

NEWEST = (2, 12)

tf1 = tf.compat.v1


class SlimLayers(CoreLayers):
    """`CoreLayers` with its parametrised layers and pooling taken from the three packages.

    Raises UsageError where TensorFlow is too new or a package is missing.
    """

    def __init__(self, reuse: bool = False) -> None:
        super().__init__(reuse)
        version = tuple(int(part) for part in tf.__version__.split(".")[:2])
        if version > NEWEST:
            raise UsageError(
                f"--layers slim needs TensorFlow 2.12 or older and this is {tf.__version__}; use --layers core, the"
                " same network with the same checkpoints"
            )
        try:
            # tflearn makes a variable in the default graph when it is imported: let it be one that nobody uses.
            with tf.Graph().as_default():
                import tf_slim
                from tflearn.layers.conv import global_avg_pool
        except ImportError as error:
            raise UsageError(
                f"--layers slim needs tf-slim 1.1.0 and tflearn 0.5.0 ({error}); pip install tf-slim==1.1.0"
                " tflearn==0.5.0, or use --layers core"
            ) from error
        self._slim = tf_slim
        self._global_avg_pool = global_avg_pool

    def conv(self, x: Any, filters: int, kernel: int, strides: int = 1, bias: bool = True) -> Any:
        name = self._names.name("conv2d")
        return self._noted(
            name,
            tf1.layers.conv2d(
                x,
                filters,
                kernel,
                strides,
                padding="same",
                use_bias=bias,
                kernel_initializer=tf1.zeros_initializer(),
                name=name,
                reuse=self._reuse or None,
            ),
        )

    def batch_norm(self, x: Any, training: Optional[bool]) -> Any:
        name = self._names.name("BatchNorm")
        return self._noted(
            name,
            self._slim.batch_norm(
                x,
                decay=BATCH_NORM_DECAY,
                epsilon=BATCH_NORM_EPSILON,
                center=True,
                scale=True,
                zero_debias_moving_mean=True,
                is_training=training,
                scope=name,
                reuse=self._reuse or None,
            ),
        )

    def batch_statistics(self) -> List[Any]:
        """None: slim keeps them to itself, and so trains on one device alone."""
        return []

    def update_averages(self, batch_statistics: Sequence[Any], assign: Callable[[Any, Any], Any] = tf1.assign) -> Any:
        return tf1.get_collection(tf1.GraphKeys.UPDATE_OPS)

    def dense(self, x: Any, units: int) -> Any:
        name = self._names.name("dense")
        return self._noted(
            name,
            tf1.layers.dense(
                x,
                units,
                use_bias=False,
                kernel_initializer=tf1.zeros_initializer(),
                name=name,
                reuse=self._reuse or None,
            ),
        )

    def global_average_pool(self, x: Any) -> Any:
        return self._global_avg_pool(x)
