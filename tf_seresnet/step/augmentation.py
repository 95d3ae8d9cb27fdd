"""The augmentation of a batch as pure functions of tensors; `shared.rng` draws its numbers, so it has no state.

Images are normalised, float32 [batch, height, width, channels]: a zero is the training set's mean colour. A box is
int32 [batch, 4], top, left, bottom, right; where it is empty, it does nothing.
"""

from __future__ import annotations

from typing import Any, Tuple

import tensorflow as tf


def crop(padded: Any, size: Tuple[int, int], top: Any, left: Any, flip: Any) -> Any:
    """Crop and mirror a whole batch by two gathers: the mirrored image is the one whose columns are read backwards."""
    height, width = size
    rows = top[:, None] + tf.range(height)
    forwards = tf.range(width)
    # A flip adds width - 1 - 2 * column to a column, which counts them from the other end.
    columns = left[:, None] + forwards + tf.cast(flip, tf.int32)[:, None] * (width - 1 - 2 * forwards)
    cropped = tf.gather(tf.gather(padded, rows, axis=1, batch_dims=1), columns, axis=2, batch_dims=1)
    return tf.reshape(cropped, [-1, height, width, padded.shape[-1]])


def cut_out(images: Any, box: Any) -> Any:
    """The images with zeros in the box (DeVries and Taylor, arXiv 1708.04552)."""
    return images * (1.0 - _inside(box, images))


def mix(images: Any, pixels: Any, box: Any) -> Any:
    """Each image mixed with the one before it in the batch, the first with the last, as `shared.rng.Mixes` says."""
    own = pixels[:, None, None, None] * (1.0 - _inside(box, images))
    return images * own + before(images) * (1.0 - own)


def before(batch: Any) -> Any:
    """The entry before each of [batch, ...]; of the first it is the last. It is what torchvision mixes with."""
    return tf.concat([batch[-1:], batch[:-1]], 0)


def _inside(box: Any, images: Any) -> Any:
    """1 inside the box, else 0: float32 [batch, height, width, 1]."""
    top, left, bottom, right = (box[:, None, None, side, None] for side in range(4))
    rows, columns = tf.range(images.shape[1])[:, None, None], tf.range(images.shape[2])[:, None]
    return tf.cast((rows >= top) & (rows < bottom) & (columns >= left) & (columns < right), tf.float32)
