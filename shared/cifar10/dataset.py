"""CIFAR-10 in its python batches, or any data set in their layout: find it, check it, load it, describe it.

    cifar-10-batches-py/
        batches.meta                    num_cases_per_batch, num_vis, label_names
        data_batch_1 ... data_batch_5   data: uint8 [cases, 3072], red plane, green plane, blue plane; labels
        test_batch

The format is that of https://www.cs.toronto.edu/~kriz/cifar.html (Krizhevsky 2009). Any fault of a file is one
DataError. Pickles are read by `restricted_pickle`, which runs no code of the file's choice.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple, Union

import numpy as np

from shared.cifar10 import restricted_pickle
from shared.errors import DataError
from shared.system.paths import expanded, reading
from shared.text import printable

FOLDER = "cifar-10-batches-py"
META_FILE = "batches.meta"
TRAIN_FILES = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5")
TEST_FILE = "test_batch"
FILES = (*TRAIN_FILES, TEST_FILE)
OFFICIAL_NAME = "cifar-10"
UNNAMED = "cifar-10-layout"
MAX_FILE_BYTES = 64 * 2**20  # official files have 31 million bytes, copies made by Python 3 up to 47 million

_ARCHIVE = "cifar-10-python.tar.gz"
_PIXELS = 3072
_REMEDY = f"extract {_ARCHIVE} afresh, or write it as there (data: uint8 [images, {_PIXELS}], labels: a list of int)"
OFFICIAL = {  # name: bytes, md5
    "batches.meta": (158, "5ff9c542aee3614f3951f8cda6e48888"),
    "data_batch_1": (31035704, "c99cafc152244af753f735de768cd75f"),
    "data_batch_2": (31035320, "d4bba439e000b95fd0a9bffe97cbabec"),
    "data_batch_3": (31035999, "54ebc095f3ab1f0389bbae665268c751"),
    "data_batch_4": (31035696, "634d18415352ddfa80567beed471001a"),
    "data_batch_5": (31035623, "482c414d41f54cd18b22e5b47cb7c3cb"),
    "test_batch": (31035526, "40351d587109b95175f43aff81a1287e"),
}


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


def find(path: Union[str, Path]) -> Path:
    """Return the folder of the batches, `path` or `path`/cifar-10-batches-py. Raises DataError if neither is one."""
    root = Path(expanded(path))
    folders = [folder for folder in (root, root / FOLDER) if os.path.isdir(str(folder))]
    for folder in folders:
        if any(name == META_FILE or _is_batch(name) for name in _listed(folder)):
            return folder
    for archive in (root, *(folder / _ARCHIVE for folder in folders)):
        if archive.name == _ARCHIVE and os.path.isfile(str(archive)):
            advice = f"extract it (tar -xzf {archive} -C {archive.parent}) and give the folder {FOLDER}"
            raise DataError(f"{archive} is still packed; {advice}")
    if not folders:
        what = "is not a folder" if os.path.exists(str(root)) else "does not exist"
    elif {"train", "test", "meta"} <= set(_listed(root)):
        what = "holds CIFAR-100, and this network is trained on CIFAR-10"
    else:
        what = "holds no CIFAR-10 python batches"
    raise DataError(f"{root} {what}; give the folder {FOLDER} or its parent")


def check(path: Union[str, Path]) -> Path:
    """Check batches.meta and the names and sizes of all files, and return the folder. Raises DataError."""
    folder = find(path)
    present = _listed(folder)
    missing = [name for name in OFFICIAL if name not in present]
    extra = [name for name in present if _is_batch(name) and name not in OFFICIAL]
    if missing or extra:
        lacks = [f"lacks {', '.join(missing)}"] if missing else []
        has = [f"has {', '.join(extra[:8])}{', ...' if len(extra) > 8 else ''}, no part of CIFAR-10"] if extra else []
        raise DataError(f"{folder} {' and '.join(lacks + has)}; {_REMEDY if missing else 'remove what is extra'}")
    needed = read_meta(folder).cases * _PIXELS
    for name in FILES:
        size = _size(folder / name)
        if size < needed:
            raise _fault(folder / name, f"is truncated: {size} bytes, where its images need {needed} and more")
    return folder


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
    official, heading = _checksum(META_FILE, meta.content)
    classes = f"{len(meta.label_names)} classes: {', '.join(meta.label_names)}"
    lines = [f"{heading}, {cases} images per file, {classes}"]
    for number, name in enumerate(FILES):
        part = slice(number * cases, (number + 1) * cases)
        content, pixels, labels[part] = read_batch(folder / name, meta)
        is_official, heading = _checksum(name, content)
        official = official and is_official
        lines.append(heading)
        digest.update(pixels.data)
        for channel in range(3):  # six times as fast as one transposed copy
            images[part, ..., channel] = pixels[:, channel * 1024 : (channel + 1) * 1024].reshape(-1, 32, 32)
    digest.update(labels.astype("<i4").tobytes())
    data = Cifar10(
        name=OFFICIAL_NAME if official else meta.dataset_name,
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
    lines = [f"folder {data.path}", meta_line]
    for number, heading in enumerate(headings[:-1]):
        part = slice(number * cases, (number + 1) * cases)
        lines.append(f"{heading}, {_content(data.train_images[part], data.train_labels[part], classes)}")
    test = _content(data.test_images, data.test_labels, classes)
    train = _content(data.train_images, data.train_labels, classes)
    verdict = "every md5 is the official one" if data.name == OFFICIAL_NAME else "complete, but not the official files"
    return [*lines, f"{headings[-1]}, {test}", f"train set: {train}", f"test set: {test}", f"{data.name}: {verdict}"]


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


def _checksum(name: str, content: bytes) -> Tuple[bool, str]:
    """Whether this is the content of the official file of that name, and a line that says so."""
    official = OFFICIAL[name] == (len(content), hashlib.md5(content).hexdigest())
    return official, f"{name}: {len(content)} bytes, md5 {'official' if official else 'not the official one'}"


def _content(images: np.ndarray, labels: np.ndarray, classes: int) -> str:
    per_class = " ".join(map(str, np.bincount(labels, minlength=classes)))
    mean, deviation = (" ".join(f"{value:.3f}" for value in values) for values in channel_statistics(images))
    return f"{len(labels)} images, per class {per_class}, mean {mean}, std {deviation}"


# -- the files -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Meta:
    """The content of batches.meta: images per file, class names, and the data set's name for itself."""

    content: bytes
    cases: int
    label_names: Tuple[str, ...]
    dataset_name: str


def _is_batch(name: str) -> bool:
    return name.startswith(("data_batch", "test_batch"))


def _listed(folder: Path) -> List[str]:
    with reading(folder, "check its permissions"):
        return sorted(os.listdir(str(folder)))


def _fault(path: Path, what: str) -> DataError:
    return DataError(f"{path} {what}; {_REMEDY}")


def _size(path: Path) -> int:
    """Return the size in bytes. Raises DataError unless this is a regular file and not too large."""
    with reading(path, _REMEDY):
        status = os.stat(str(path))
    if not stat.S_ISREG(status.st_mode):
        raise _fault(path, "is not a file")
    if status.st_size > MAX_FILE_BYTES:
        raise _fault(path, f"is too large for a CIFAR-10 file ({status.st_size} bytes)")
    return status.st_size


def _read(path: Path) -> Tuple[bytes, Dict[str, Any]]:
    """The bytes of a file, and the dictionary in it, with one-dimensional arrays as lists."""
    _size(path)
    with reading(path, "check its permissions"), open(str(path), "rb") as file:
        content = file.read(MAX_FILE_BYTES)
    try:
        values = restricted_pickle.loads(content)
    except restricted_pickle.Refused as error:
        raise _fault(path, f"is not a CIFAR-10 file: {error}") from error
    return content, {
        name: value.tolist() if getattr(value, "ndim", 0) == 1 else value for name, value in values.items()
    }


def read_meta(folder: Path) -> Meta:
    """Read batches.meta. Raises DataError for values that no set in this layout has."""
    path = folder / META_FILE
    content, values = _read(path)
    cases, pixels, names = (values.get(key) for key in ("num_cases_per_batch", "num_vis", "label_names"))
    if type(cases) is not int or not 1 <= cases <= MAX_FILE_BYTES // _PIXELS:
        raise _fault(path, "gives no valid num_cases_per_batch")
    if type(pixels) is not int or pixels != _PIXELS:
        raise _fault(path, f"gives no num_vis of {_PIXELS}, 32 x 32 pixels of 3 colours")
    label_names = tuple(map(_decoded, names)) if type(names) is list and len(names) <= 1000 else ()
    if not label_names or not all(label_names) or len(set(label_names)) != len(label_names):
        raise _fault(path, "gives no list of label_names, or some that are empty, repeated or not text")
    dataset_name = _decoded(values.get("dataset_name"))
    if not re.match(r"[a-z0-9][a-z0-9._-]{0,63}\Z", dataset_name) or dataset_name == OFFICIAL_NAME:
        dataset_name = UNNAMED  # only the MD5 sums make a set official
    return Meta(content, cases, label_names, dataset_name)


def _decoded(value: object) -> str:
    """Printable text of at most 100 characters, with escapes for bytes that are not UTF-8; else an empty string."""
    text = value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
    text = printable(text) if isinstance(text, str) else ""
    return text if text.isprintable() and len(text) <= 100 else ""


def read_batch(path: Path, meta: Meta) -> Tuple[bytes, np.ndarray, np.ndarray]:
    """The bytes of a file, its pixels uint8 [cases, 3072] as stored, its labels int32 [cases]. Raises DataError."""
    content, values = _read(path)
    pixels, labels = _pixels(path, values, meta.cases), values.get("labels")
    if type(labels) is not list or len(labels) != meta.cases or set(map(type, labels)) != {int}:
        raise _fault(path, f"has no list of {meta.cases} labels")
    last = len(meta.label_names) - 1
    for case, label in enumerate(labels):
        if not 0 <= label <= last:
            raise _fault(path, f"gives image {case} the label {label}, not 0 to {last}")
    return content, pixels, np.array(labels, np.int32)


def read_images(path: Path) -> np.ndarray:
    """The images of one batch file, uint8 [N, 32, 32, 3]; labels and batches.meta are not needed. Raises DataError."""
    pixels = _pixels(path, _read(path)[1])
    return np.ascontiguousarray(pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))


def _pixels(path: Path, values: Dict[str, Any], cases: Optional[int] = None) -> np.ndarray:
    """The pixels in the content of a file, uint8 [cases, 3072]. Raises DataError."""
    pixels = values.get("data")
    if not isinstance(pixels, np.ndarray):
        raise _fault(path, "has no data")
    if pixels.dtype != np.uint8:
        raise _fault(path, f"has data of {pixels.dtype}, not of uint8, 0 to 255")
    if pixels.shape[1:] != (_PIXELS,) or not len(pixels) or len(pixels) != (cases or len(pixels)):
        expected = f"{(cases, _PIXELS)} as {META_FILE} says" if cases else f"(images, {_PIXELS})"
        raise _fault(path, f"has data of shape {pixels.shape}, not {expected}")
    return pixels
