"""The order of the images and their augmentation as pure functions of (seed, epoch).

No state is kept between epochs, so a resumed run sees the same images without restoring any. The stream of RandomState
is frozen across NumPy releases (NEP 19), that of Generator is not.
"""

from __future__ import annotations

from typing import NamedTuple, Optional

import numpy as np

_ORDER, _CROPS, _IMAGE, _STEP, _DRAWS, _SHARDS, _CUTOUT, _MIX, _DEPTH = range(9)  # independent streams


class Crops(NamedTuple):
    """One crop per image: its offset in the padded image, in pixels, and whether it is mirrored."""

    top: np.ndarray  # int32 [images]
    left: np.ndarray  # int32 [images]
    flip: np.ndarray  # bool [images]


class Mixes(NamedTuple):
    """How each image is mixed with another: by MixUp, by CutMix, or not at all."""

    pixels: np.ndarray  # float32 [images], the share of its own pixels in a MixUp, else 1
    box: np.ndarray  # int32 [images, 4], the other image's part in a CutMix: top, left, bottom, right; else empty
    label: np.ndarray  # float32 [images], the share of its own label


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


def epoch_cutouts(seed: int, epoch: int, images: int, length: int, side: int) -> np.ndarray:
    """Squares to cut out of images of `side` pixels: int32 [images, 4], top, left, bottom, right.

    As in the code of DeVries and Taylor (arXiv 1708.04552): `length` pixels around a uniformly drawn pixel, so that a
    square may lie partly outside the image.
    """
    centre = _random(seed, epoch, _CUTOUT).randint(0, side, size=(images, 2))
    corners = np.concatenate([centre - length // 2, centre - length // 2 + length], 1)
    return np.clip(corners, 0, side).astype(np.int32)


def epoch_mixes(
    seed: int, epoch: int, images: int, side: int, mixup: float = 0.0, cutmix: float = 0.0, mixed: float = 1.0
) -> Mixes:
    """MixUp (Zhang et al., arXiv 1710.09412) and CutMix (Yun et al., arXiv 1905.04899) of images of `side` pixels.

    `mixup` and `cutmix` are the alphas of Beta(alpha, alpha), 0 for off; with both, half of the mixed images have each.
    The share `mixed` of the images is mixed. The box is that of the CutMix paper and of torchvision, and the label's
    share is exactly the part of the image that is left.
    """
    random = _random(seed, epoch, _MIX)
    chosen, cut = random.random_sample((2, images))
    is_mixed, is_cut = (
        chosen < (mixed if mixup or cutmix else 0.0),
        cut < (0.5 if mixup and cutmix else float(cutmix > 0)),
    )
    share = np.where(is_cut, *(random.beta(alpha or 1.0, alpha or 1.0, images) for alpha in (cutmix, mixup)))
    centre = random.randint(0, side, size=(images, 2))
    half = (0.5 * np.sqrt(1.0 - share) * side).astype(np.int64)[:, None]
    corners = np.clip(np.concatenate([centre - half, centre + half], 1), 0, side)
    box = np.where((is_mixed & is_cut)[:, None], corners, 0).astype(np.int32)
    pixels = np.where(is_mixed & ~is_cut, share, 1.0).astype(np.float32)
    left = 1.0 - (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1]) / side**2
    return Mixes(pixels, box, np.where(is_cut, left, pixels).astype(np.float32))


def epoch_depths(seed: int, epoch: int, images: int, blocks: int, rate: float) -> np.ndarray:
    """Factors of the residual branches, float32 [images, blocks]: 0 where one is dropped, else 1 / (1 - its rate).

    Stochastic depth (Huang et al., arXiv 1603.09382): the rate grows linearly, to `rate` in the last block.
    """
    rates = rate * np.arange(1, blocks + 1) / blocks
    kept = _random(seed, epoch, _DEPTH).random_sample((images, blocks)) >= rates
    return (kept / (1.0 - rates)).astype(np.float32)


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
