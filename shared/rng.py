"""The order of the images and their augmentation as pure functions of (seed, epoch).

No state is kept between epochs, so a resumed run sees the same images without restoring any. The stream of RandomState
is frozen across NumPy releases (NEP 19), that of Generator is not.
"""

from __future__ import annotations

from typing import NamedTuple, Optional

import numpy as np

_ORDER, _CROPS, _IMAGE, _STEP, _DRAWS, _SHARDS = range(6)  # independent streams


class Crops(NamedTuple):
    """One crop per image: its offset in the padded image, in pixels, and whether it is mirrored."""

    top: np.ndarray  # int32 [images]
    left: np.ndarray  # int32 [images]
    flip: np.ndarray  # bool [images]


def epoch_order(seed: int, epoch: int, images: int) -> np.ndarray:
    """A permutation of 0 .. images-1, int64 [images], for this zero-based epoch."""
    return _random(seed, epoch, _ORDER).permutation(images)


def grouped_order(seed: int, epoch: int, shards: np.ndarray, group: int) -> np.ndarray:
    """A permutation of 0 .. images-1, int64 [images], that reads from about `group` shards at a time.

    `shards` holds the zero-based shard of each image. The shards are shuffled and split into groups of `group`, and
    the images of each group are shuffled together. With `group` shards or fewer it equals `epoch_order`.
    """
    order = epoch_order(seed, epoch, len(shards))
    mixed = _random(seed, epoch, _SHARDS).permutation(int(shards.max(initial=-1)) + 1)
    place = np.empty_like(mixed)
    place[mixed] = np.arange(len(mixed)) // group
    return order[np.argsort(place[shards[order]], kind="stable")]


def epoch_crops(seed: int, epoch: int, images: int, padding: int, flip: bool) -> Crops:
    """Crop offsets in 0 .. 2 * padding and flips with probability 1/2, one for each position in the epoch's order."""
    random = _random(seed, epoch, _CROPS)
    top, left = random.randint(0, 2 * padding + 1, size=(2, images)).astype(np.int32)
    mirrored = random.randint(0, 2, size=images).astype(bool)
    return Crops(top, left, mirrored if flip else np.zeros(images, bool))


def image_random(
    seed: int, epoch: int, image: int, reuse: Optional[np.random.RandomState] = None
) -> np.random.RandomState:
    """The generator of one image's augmentation in this zero-based epoch, independent of when and where it is read.

    `reuse`, if not None, is seeded and returned: creating one takes ten times as long.
    """
    if reuse is None:
        return _random(seed, epoch, _IMAGE, image)
    reuse.seed([seed % 2**32, epoch, _IMAGE, image])
    return reuse


def batch_seed(seed: int, epoch: int, position: int, rank: int = 0) -> int:
    """A seed below 2**31 for mixing (MixUp, CutMix) the batch at this zero-based position of an epoch."""
    return int(_random(seed, epoch, _STEP, position, rank).randint(2**31 - 1))


def step_seed(seed: int, epoch: int, step: int, rank: int = 0) -> int:
    """A seed below 2**31 for dropout and drop-path in this zero-based step of an epoch."""
    return int(_random(seed, epoch, _DRAWS, step, rank).randint(2**31 - 1))


def _random(seed: int, epoch: int, stream: int, *more: int) -> np.random.RandomState:
    return np.random.RandomState([seed % 2**32, epoch, stream, *more])
