"""CIFAR-10 in memory: load it, describe it, compute the statistics of its channels.

Any data set in the layout of the CIFAR-10 python batches is accepted (see `batches`), with any number of images and
classes. It is named 'cifar-10' only if all files have the official MD5 sums.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import List, Tuple, Union

import numpy as np

from shared.cifar10.batches import (
    FOLDER,
    META_FILE,
    OFFICIAL_NAME,
    TRAIN_FILES,
    UNNAMED,
    Meta,
    batches,
    check,
    find,
    has_official_sizes,
    is_official,
    read,
    read_meta,
)

__all__ = ["FOLDER", "OFFICIAL_NAME", "UNNAMED", "Cifar10", "channel_statistics", "check", "describe", "find", "load"]


@dataclass(frozen=True, eq=False)
class Cifar10:
    """A data set in memory: images uint8 [N, 32, 32, 3], labels int32 [N] in 0 .. len(label_names) - 1.

    `name` is 'cifar-10' only for the official files. `fingerprint` is the SHA-256 of pixels and labels, which does
    not depend on how they were pickled.
    """

    name: str
    path: str
    train_images: np.ndarray = field(repr=False)
    train_labels: np.ndarray = field(repr=False)
    test_images: np.ndarray = field(repr=False)
    test_labels: np.ndarray = field(repr=False)
    label_names: Tuple[str, ...]
    fingerprint: str


def load(path: Union[str, Path]) -> Cifar10:
    """Find, check and load the data set. Raises DataError, one line, if anything is wrong with it."""
    folder = check(path)
    meta = read_meta(folder)
    cases, trained = meta.cases, meta.cases * len(TRAIN_FILES)
    images = np.empty((trained + cases, 32, 32, 3), np.uint8)
    labels = np.empty(trained + cases, np.int32)
    official = has_official_sizes(folder) and is_official(META_FILE, read(folder, META_FILE))
    digest = hashlib.sha256(b"%d %d\n" % (trained, cases))
    for number, batch in enumerate(batches(folder, meta)):
        official = official and is_official(batch.name, batch.content)
        digest.update(batch.pixels.data)
        labels[number * cases : (number + 1) * cases] = batch.labels
        _interleave(batch.pixels, images[number * cases : (number + 1) * cases])
    digest.update(labels.astype("<i4").tobytes())
    return Cifar10(
        name=_name(official, meta),
        path=str(folder),
        train_images=images[:trained],
        train_labels=labels[:trained],
        test_images=images[trained:],
        test_labels=labels[trained:],
        label_names=meta.label_names,
        fingerprint=digest.hexdigest(),
    )


def channel_statistics(images: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Return mean and population standard deviation per channel, float64 [3] each, in units of 0 .. 255.

    `images` is uint8 [N, H, W, 3] with N > 0, else ValueError is raised. The sums are exact, so the result does not
    depend on the order of the images.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or images.size == 0:
        raise ValueError(f"images must be uint8 [N, H, W, 3], not {images.dtype} {images.shape}")
    return _moments(_histogram(images))


def describe(path: Union[str, Path]) -> List[str]:
    """Check every file and return a line about each, the verdict last. Raises DataError at the first fault."""
    folder = check(path)
    meta = read_meta(folder)
    content = read(folder, META_FILE)
    official = [is_official(META_FILE, content)]
    lines = [
        f"folder {folder}",
        f"{_heading(META_FILE, content, official[-1])}, {meta.cases} images per file, "
        f"{len(meta.label_names)} classes: {', '.join(meta.label_names)}",
    ]
    counts, histograms = [], []
    for batch in batches(folder, meta):
        official.append(is_official(batch.name, batch.content))
        images = np.empty((meta.cases, 32, 32, 3), np.uint8)
        _interleave(batch.pixels, images)
        counts.append(np.bincount(batch.labels, minlength=len(meta.label_names)))
        histograms.append(_histogram(images))
        heading = _heading(batch.name, batch.content, official[-1])
        lines.append(f"{heading}, {_content(counts[-1], histograms[-1])}")
    trained = len(TRAIN_FILES)
    train_counts, train_histogram = np.sum(counts[:trained], axis=0), np.sum(histograms[:trained], axis=0)
    lines.append(f"train set: {_content(train_counts, train_histogram)}")
    lines.append(f"test set: {_content(counts[-1], histograms[-1])}")
    verdict = "every md5 is the official one" if all(official) else "complete, but not the official files"
    return lines + [f"{_name(all(official), meta)}: {verdict}"]


def _name(official: bool, meta: Meta) -> str:
    return OFFICIAL_NAME if official else meta.dataset_name


def _interleave(pixels: np.ndarray, images: np.ndarray) -> None:
    """Copy planes [N, 3072] into images [N, 32, 32, 3]. Six times as fast as one transposed copy."""
    source, target = pixels.reshape(-1, 3, 1024), images.reshape(-1, 1024, 3)
    for channel in range(3):
        target[:, :, channel] = source[:, channel]


def _histogram(images: np.ndarray) -> np.ndarray:
    """Counts of the values 0 .. 255 per channel, int64 [3, 256], without a wider copy of all images."""
    counts = np.zeros((3, 256), np.int64)
    for start in range(0, len(images), 1000):
        for channel in range(3):
            counts[channel] += np.bincount(images[start : start + 1000, ..., channel].ravel(), minlength=256)
    return counts


def _moments(histogram: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    means, deviations = [], []
    for counts in histogram.tolist():  # Python's integers cannot overflow
        n = sum(counts)
        total = sum(value * count for value, count in enumerate(counts))
        squares = sum(value * value * count for value, count in enumerate(counts))
        means.append(total / n)
        deviations.append(math.sqrt((n * squares - total * total) / (n * n)))
    return np.array(means, np.float64), np.array(deviations, np.float64)


def _heading(name: str, content: bytes, official: bool) -> str:
    return f"{name}: {len(content)} bytes, md5 {'official' if official else 'not the official one'}"


def _content(counts: np.ndarray, histogram: np.ndarray) -> str:
    mean, deviation = _moments(histogram)
    return (
        f"{counts.sum()} images, per class {' '.join(map(str, counts))}, "
        f"mean {' '.join(f'{x:.3f}' for x in mean)}, std {' '.join(f'{x:.3f}' for x in deviation)}"
    )
