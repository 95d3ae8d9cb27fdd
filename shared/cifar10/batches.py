"""The files of the CIFAR-10 python batches: find them, check that they are complete, read their contents.

    cifar-10-batches-py/
        batches.meta                    num_cases_per_batch, num_vis, label_names
        data_batch_1 ... data_batch_5   data: uint8 [cases, 3072], red plane, green plane, blue plane; labels
        test_batch

The format is that of https://www.cs.toronto.edu/~kriz/cifar.html (Krizhevsky 2009). Any fault of a file is one
DataError. Pickles are read by `restricted_pickle`, which runs no code of the file's choice.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple, Union

import numpy as np

from shared.cifar10 import restricted_pickle
from shared.errors import DataError
from shared.system.paths import expanded, reading
from shared.text import printable

FOLDER = "cifar-10-batches-py"
META_FILE = "batches.meta"
TRAIN_FILES = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5")
TEST_FILE = "test_batch"
OFFICIAL_NAME = "cifar-10"
UNNAMED = "cifar-10-layout"
MAX_FILE_BYTES = 64 * 2**20  # official files have 31 million bytes, copies made by Python 3 up to 47 million

_ARCHIVE = "cifar-10-python.tar.gz"
_PIXELS = 3072
_OFFICIAL = {  # name: bytes, md5
    "batches.meta": (158, "5ff9c542aee3614f3951f8cda6e48888"),
    "data_batch_1": (31035704, "c99cafc152244af753f735de768cd75f"),
    "data_batch_2": (31035320, "d4bba439e000b95fd0a9bffe97cbabec"),
    "data_batch_3": (31035999, "54ebc095f3ab1f0389bbae665268c751"),
    "data_batch_4": (31035696, "634d18415352ddfa80567beed471001a"),
    "data_batch_5": (31035623, "482c414d41f54cd18b22e5b47cb7c3cb"),
    "test_batch": (31035526, "40351d587109b95175f43aff81a1287e"),
}


@dataclass(frozen=True)
class Meta:
    """The content of batches.meta: images per file, class names, and the data set's name for itself."""

    cases: int
    label_names: Tuple[str, ...]
    dataset_name: str


@dataclass(frozen=True, eq=False)
class Batch:
    """A checked file: its bytes, its pixels uint8 [cases, 3072] as stored, its labels int32 [cases]."""

    name: str
    content: bytes
    pixels: np.ndarray
    labels: np.ndarray


def find(path: Union[str, Path]) -> Path:
    """Return the folder of the batches, `path` or `path`/cifar-10-batches-py. Raises DataError if neither is one."""
    root = Path(expanded(path))
    for folder in (root, root / FOLDER):
        names = _listed(folder) if os.path.isdir(str(folder)) else []
        if any(name == META_FILE or _is_batch(name) for name in names):
            return folder
    if root.name == _ARCHIVE and os.path.isfile(str(root)):
        raise DataError(f"{root} is still packed; extract it (tar -xzf {root}) and give the folder {FOLDER}")
    if not os.path.isdir(str(root)):
        what = "is not a folder" if os.path.exists(str(root)) else "does not exist"
        raise DataError(f"{root} {what}; give the folder {FOLDER} or its parent")
    for folder in (root, root / FOLDER):
        archive = folder / _ARCHIVE
        if os.path.isfile(str(archive)):
            raise DataError(f"{archive} is still packed; extract it (tar -xzf {archive} -C {folder})")
    if {"train", "test", "meta"} <= set(_listed(root)):
        raise DataError(f"{root} holds CIFAR-100, and this network is trained on CIFAR-10; give the folder {FOLDER}")
    raise DataError(f"{root} holds no CIFAR-10 python batches; give the folder {FOLDER} or its parent")


def check(path: Union[str, Path]) -> Path:
    """Check batches.meta and the names and sizes of the files, and return the folder. Raises DataError.

    The batches themselves are not read.
    """
    folder = find(path)
    check_names(folder)
    check_sizes(folder, read_meta(folder))
    return folder


# -- names and sizes -----------------------------------------------------------------------------


def _is_batch(name: str) -> bool:
    return name.startswith(("data_batch", "test_batch"))


def _listed(folder: Path) -> List[str]:
    with reading(folder, "check its permissions"):
        return sorted(os.listdir(str(folder)))


def check_names(folder: Path) -> None:
    present = _listed(folder)
    missing = [name for name in _OFFICIAL if name not in present]
    extra = [name for name in present if _is_batch(name) and name not in _OFFICIAL]
    if any(name.endswith(".bin") for name in extra):
        raise DataError(f"{folder} holds the binary version of CIFAR-10; get the python version, {_ARCHIVE}")
    faults = []
    if missing:
        faults.append(f"lacks {', '.join(missing)}")
    if extra:
        shown = extra if len(extra) <= 8 else extra[:8] + ["..."]
        faults.append(f"has {', '.join(shown)}, no part of CIFAR-10")
    if faults:
        remedy = "remove what is extra" if not missing else _remedy(folder)
        raise DataError(f"{folder} {' and '.join(faults)}; {remedy}")


def check_sizes(folder: Path, meta: Meta) -> None:
    for name in TRAIN_FILES + (TEST_FILE,):
        size, needed = _size(folder / name), meta.cases * _PIXELS
        if size < needed:
            raise DataError(
                f"{folder / name} is truncated: {size} bytes, where {meta.cases} images "
                f"need {needed} and more; {_remedy(folder)}"
            )


def has_official_sizes(folder: Path) -> bool:
    return all(_size(folder / name) == size for name, (size, _) in _OFFICIAL.items())


def _remedy(folder: Path) -> str:
    """What to do about a bad file: only a copy of the official set can be extracted again."""
    sizes = {name: os.path.getsize(str(folder / name)) for name in _OFFICIAL if os.path.isfile(str(folder / name))}
    if any(size == _OFFICIAL[name][0] for name, size in sizes.items()) or not sizes:
        return f"extract {_ARCHIVE} afresh"
    return f"write it as in CIFAR-10 (data: uint8 [images, {_PIXELS}], labels: a list of int), or extract {_ARCHIVE}"


def _size(path: Path) -> int:
    """Return the size in bytes. Raises DataError unless this is a regular file, not empty and not too large."""
    try:
        status = os.stat(str(path))
    except OSError as error:
        raise DataError(f"cannot read {path} ({error.strerror}); {_remedy(path.parent)}") from error
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{path} is not a file; {_remedy(path.parent)}")
    if status.st_size == 0:
        raise DataError(f"{path} is empty; {_remedy(path.parent)}")
    if status.st_size > MAX_FILE_BYTES:
        raise DataError(f"{path} is too large for a CIFAR-10 file ({status.st_size} bytes); {_remedy(path.parent)}")
    return status.st_size


# -- contents ------------------------------------------------------------------------------------


def read(folder: Path, name: str) -> bytes:
    path = folder / name
    _size(path)
    with reading(path, "check its permissions"), open(str(path), "rb") as file:
        return file.read(MAX_FILE_BYTES)


def _unpickled(path: Path, content: bytes) -> Dict[str, Any]:
    try:
        return restricted_pickle.loads(content)
    except restricted_pickle.Refused as error:
        raise DataError(f"{path} is not a CIFAR-10 file: {error}; {_remedy(path.parent)}") from error


def read_meta(folder: Path) -> Meta:
    path = folder / META_FILE
    values = _unpickled(path, read(folder, META_FILE))
    cases = values.get("num_cases_per_batch")
    if type(cases) is not int or not 1 <= cases <= MAX_FILE_BYTES // _PIXELS:
        raise DataError(f"{path} gives no valid num_cases_per_batch; {_remedy(path.parent)}")
    vis = values.get("num_vis")
    if type(vis) is not int or vis != _PIXELS:
        raise DataError(f"{path} gives no num_vis of {_PIXELS}, 32 x 32 pixels of 3 colours; {_remedy(path.parent)}")
    names = values.get("label_names")
    if isinstance(names, np.ndarray) and names.ndim == 1:
        names = names.tolist()
    if type(names) is not list or not 1 <= len(names) <= 1000:
        raise DataError(f"{path} gives no list of label_names; {_remedy(path.parent)}")
    label_names = tuple(_decoded(name) for name in names)
    if not all(label_names) or len(set(label_names)) != len(label_names):
        raise DataError(f"{path} gives label_names that are empty, repeated or not text; {_remedy(path.parent)}")
    dataset_name = _decoded(values.get("dataset_name"))
    if not re.match(r"[a-z0-9][a-z0-9._-]{0,63}\Z", dataset_name) or dataset_name == OFFICIAL_NAME:
        dataset_name = UNNAMED  # only the MD5 sums make a set official
    return Meta(cases, label_names, dataset_name)


def _decoded(value: object) -> str:
    """Printable text of at most 100 characters, with escapes for bytes that are not UTF-8; else an empty string."""
    text = value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
    text = printable(text) if isinstance(text, str) else ""
    return text if text.isprintable() and len(text) <= 100 else ""


def batches(folder: Path, meta: Meta) -> Iterator[Batch]:
    """Yield the checked contents of the five training files and the test file, one in memory at a time."""
    for name in TRAIN_FILES + (TEST_FILE,):
        path, content = folder / name, read(folder, name)
        values = _unpickled(path, content)
        pixels, labels = values.get("data"), values.get("labels")
        if isinstance(pixels, np.ndarray) and pixels.dtype != np.uint8:
            raise DataError(f"{path} has data of {pixels.dtype}, not of uint8, 0 to 255; {_remedy(path.parent)}")
        if not isinstance(pixels, np.ndarray) or pixels.shape != (meta.cases, _PIXELS):
            found = f"has data of shape {pixels.shape}" if isinstance(pixels, np.ndarray) else "has no data"
            raise DataError(f"{path} {found}, not {(meta.cases, _PIXELS)} as {META_FILE} says; {_remedy(path.parent)}")
        if isinstance(labels, np.ndarray) and labels.ndim == 1:
            labels = labels.tolist()
        if type(labels) is not list or len(labels) != meta.cases or set(map(type, labels)) != {int}:
            raise DataError(f"{path} has no list of {meta.cases} labels; {_remedy(path.parent)}")
        array = np.array(labels, np.int64)
        outside = np.flatnonzero((array < 0) | (array >= len(meta.label_names)))
        if len(outside):
            raise DataError(
                f"{path} gives image {outside[0]} the label {array[outside[0]]}, "
                f"not 0 to {len(meta.label_names) - 1}; {_remedy(path.parent)}"
            )
        yield Batch(name, content, pixels, array.astype(np.int32))


def is_official(name: str, content: bytes) -> bool:
    size, md5 = _OFFICIAL[name]
    return len(content) == size and hashlib.md5(content).hexdigest() == md5
