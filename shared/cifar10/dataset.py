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

from shared.cifar10.batches import FILES, META_FILE, OFFICIAL_NAME, TEST_FILE, check, is_official, read_batch, read_meta


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
    return _loaded(path)[0]


def _loaded(path: Union[str, Path]) -> Tuple[Cifar10, List[str]]:
    """The data set, and a line about each of its files."""
    folder = check(path)
    meta = read_meta(folder)
    cases, trained = meta.cases, meta.cases * FILES.index(TEST_FILE)
    images, labels = np.empty((trained + cases, 32, 32, 3), np.uint8), np.empty(trained + cases, np.int32)
    digest = hashlib.sha256(b"%d %d\n" % (trained, cases))
    official = [is_official(META_FILE, meta.content)]
    classes = f"{len(meta.label_names)} classes: {', '.join(meta.label_names)}"
    lines = [f"{_heading(META_FILE, meta.content, official[0])}, {cases} images per file, {classes}"]
    for number, name in enumerate(FILES):
        part = slice(number * cases, (number + 1) * cases)
        content, pixels, labels[part] = read_batch(folder / name, meta)
        official.append(is_official(name, content))
        lines.append(_heading(name, content, official[-1]))
        digest.update(pixels.data)
        for channel in range(3):  # six times as fast as one transposed copy
            images[part, ..., channel] = pixels[:, channel * 1024 : (channel + 1) * 1024].reshape(-1, 32, 32)
    digest.update(labels.astype("<i4").tobytes())
    data = Cifar10(
        name=OFFICIAL_NAME if all(official) else meta.dataset_name,
        path=str(folder),
        train_images=images[:trained],
        train_labels=labels[:trained],
        test_images=images[trained:],
        test_labels=labels[trained:],
        label_names=meta.label_names,
        fingerprint=digest.hexdigest(),
    )
    return data, lines


def describe(path: Union[str, Path]) -> List[str]:
    """Check every file and return a line about each, the verdict last. Raises DataError at the first fault."""
    data, (meta_line, *headings) = _loaded(path)
    cases, classes = len(data.test_labels), len(data.label_names)
    parts = [slice(start, start + cases) for start in range(0, len(data.train_labels), cases)]
    contents = [_content(data.train_images[part], data.train_labels[part], classes) for part in parts]
    train = _content(data.train_images, data.train_labels, classes)
    test = _content(data.test_images, data.test_labels, classes)
    lines = [f"{heading}, {content}" for heading, content in zip(headings, [*contents, test])]
    verdict = "every md5 is the official one" if data.name == OFFICIAL_NAME else "complete, but not the official files"
    sets = [f"train set: {train}", f"test set: {test}"]
    return [f"folder {data.path}", meta_line, *lines, *sets, f"{data.name}: {verdict}"]


def channel_statistics(images: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Return mean and population standard deviation per channel, float64 [3] each, in units of 0 .. 255.

    `images` is uint8 [N, H, W, 3] with N > 0, else ValueError is raised. The sums are exact, so the result does not
    depend on the order of the images.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or images.size == 0:
        raise ValueError(f"images must be uint8 [N, H, W, 3], not {images.dtype} {images.shape}")
    histogram = np.zeros((3, 256), np.int64)
    for start in range(0, len(images), 1000):  # not all at once, which would need a wider copy
        for channel in range(3):
            histogram[channel] += np.bincount(images[start : start + 1000, ..., channel].ravel(), minlength=256)
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


def _content(images: np.ndarray, labels: np.ndarray, classes: int) -> str:
    per_class = " ".join(map(str, np.bincount(labels, minlength=classes)))
    mean, deviation = (" ".join(f"{value:.3f}" for value in values) for values in channel_statistics(images))
    return f"{len(labels)} images, per class {per_class}, mean {mean}, std {deviation}"
