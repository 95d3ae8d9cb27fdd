"""Where in its image a network sees a class, from its last feature map."""

from __future__ import annotations

from typing import Sequence

import numpy as np


def activation_maps(features: np.ndarray, weights: np.ndarray, outputs: Sequence[int], size: int) -> np.ndarray:
    """Class activation maps float32 [B, size, size], 0 to 1, from features [B, H, H, C] and weights [C, classes].

    `outputs` names a class for each image. This is Grad-CAM (Selvaraju et al., ICCV 2017, arXiv 1610.02391), which for
    a network whose classifier is linear in the averages of its last feature map is CAM (Zhou et al., CVPR 2016, arXiv
    1512.04150; section 3.1 of the former): the gradients are the classifier's weights. What is negative becomes 0; the
    sum is enlarged bilinearly and divided by its maximum. A map is 0 everywhere where nothing speaks for the class.
    """
    sums = np.maximum(np.einsum("bhwc,cb->bhw", features, weights[:, list(outputs)]), 0)
    side = sums.shape[1]
    # Pixel centres, as torch.nn.functional.interpolate(mode="bilinear") and tf.image.resize of TensorFlow 2 have them.
    places = np.clip((np.arange(size) + 0.5) * side / size - 0.5, 0, side - 1)
    bilinear = np.maximum(0, 1 - np.abs(places[:, None] - np.arange(side)))
    large = np.einsum("yh,bhw,xw->byx", bilinear, sums, bilinear)
    result: np.ndarray = large / np.maximum(large.max(axis=(1, 2), keepdims=True), np.finfo(np.float32).tiny)
    return result.astype(np.float32)
