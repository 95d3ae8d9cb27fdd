"""A network as a graph: its forward pass with the moving averages."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple

import numpy as np
import tensorflow as tf

from tf_seresnet.devices.out_of_memory import limited
from tf_seresnet.devices.replicas import ALONE, Replicas
from tf_seresnet.step.spec import NetworkSpec, Normalisation
from tf_seresnet.step.variables import layer_not_finite

tf1 = tf.compat.v1

# Images that are computed at once, at least. For one alone oneDNN 3.7 has another convolution on a CPU with AVX2, which
# rounds differently and is slow: at depth 110 on two cores 256 ms, and 34 for two images. A frozen graph has the usual
# one, and a thread that has computed such a graph takes that for variables, too.
LEAST = 2


class Inference:
    """Logits of uint8 images with the moving averages, in batches of one fixed size on each device."""

    def __init__(
        self, network: NetworkSpec, normalise: Normalisation, batch_size: int, reuse: bool, replicas: Replicas = ALONE
    ) -> None:
        self.batch_size, self.replicas = batch_size, replicas
        self.images_per_run = batch_size * replicas.towers
        self._rows = max(batch_size, LEAST) * replicas.towers
        self._images = tf1.placeholder(tf.uint8, (self._rows, 32, 32, 3), "inference_images")
        parts = tf.split(self._images, replicas.towers) if replicas.towers > 1 else [self._images]

        self._outputs: List[Tuple[str, Any]] = []  # (layer, output), device by device

        def build(number: int) -> Any:
            logits, layers = network.build(normalise(parts[number]), training=False, reuse=reuse)
            self._outputs += layers.outputs
            self._features = layers.features
            # On CPUs TensorFlow's ReLU turns nan into 0, so that the logits behind a layer that has overflowed are
            # finite. Every block's gate averages over its feature map, which makes it a cheap place to look.
            excitations = [output for _, output in layers.outputs if output.shape.ndims == 2]
            finite = tf.stack([tf.reduce_all(tf.math.is_finite(excitation), axis=1) for excitation in excitations])
            return tf1.where(tf.reduce_all(finite, axis=0), logits, tf.fill(tf.shape(logits), np.float32("nan")))

        logits = replicas.run(build)
        self._logits = tf.concat(logits, 0) if replicas.towers > 1 else logits[0]

    def run(self, session: Any, images: np.ndarray) -> np.ndarray:
        """Logits float32 [images, classes] of at most `images_per_run` images uint8 [images, 32, 32, 3].

        Those of an image on which the network overflows are nan. A short batch is padded with black images, so that no
        device compiles for a second shape, and one of one image to two; their logits are dropped.
        """
        with limited(self.batch_size, "--eval-batch-size", ", which changes no result"):
            return session.run(self._logits, self._fed(images))[: len(images)]

    def features(self, session: Any, images: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """The last feature maps float32 [images, 8, 8, C] on one device, and the classifier's weights [C, classes]."""
        dense = next(one for one in tf1.global_variables() if one.op.name == f"{self._outputs[-1][0]}/kernel")
        maps, weights = session.run([self._features, dense], self._fed(images))
        return maps[: len(images)], weights

    def first_not_finite(self, session: Any, images: np.ndarray) -> Optional[str]:
        """The first layer whose output for these images is not finite, for a message."""
        return layer_not_finite(session, self._outputs, self._fed(images))

    def _fed(self, images: np.ndarray) -> Dict[Any, np.ndarray]:
        missing = self._rows - len(images)
        padded = np.pad(images, [(0, missing), (0, 0), (0, 0), (0, 0)], "constant") if missing else images
        return {self._images: padded}
