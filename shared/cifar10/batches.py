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
from typing import Any, Dict, List, Tuple, Union

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


@dataclass(frozen=True)
class Meta:
    """The content of batches.meta: images per file, class names, and the data set's name for itself."""

    content: bytes
    cases: int
    label_names: Tuple[str, ...]
    dataset_name: str


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
    _check_names(folder)
    needed = read_meta(folder).cases * _PIXELS
    for name in FILES:
        size = _size(folder / name)
        if size < needed:
            raise _fault(folder / name, f"is truncated: {size} bytes, where its images need {needed} and more")
    return folder


def _is_batch(name: str) -> bool:
    return name.startswith(("data_batch", "test_batch"))


def _listed(folder: Path) -> List[str]:
    with reading(folder, "check its permissions"):
        return sorted(os.listdir(str(folder)))


def _check_names(folder: Path) -> None:
    present = _listed(folder)
    missing = [name for name in OFFICIAL if name not in present]
    extra = [name for name in present if _is_batch(name) and name not in OFFICIAL]
    lacks = f"lacks {', '.join(missing)}" if missing else ""
    has = f"has {', '.join(extra[:8])}{', ...' if len(extra) > 8 else ''}, no part of CIFAR-10" if extra else ""
    if missing or extra:
        what = " and ".join(filter(None, (lacks, has)))
        raise DataError(f"{folder} {what}; {_REMEDY if missing else 'remove what is extra'}")


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
    pixels, labels = values.get("data"), values.get("labels")
    if not isinstance(pixels, np.ndarray):
        raise _fault(path, "has no data")
    if pixels.dtype != np.uint8:
        raise _fault(path, f"has data of {pixels.dtype}, not of uint8, 0 to 255")
    if pixels.shape != (meta.cases, _PIXELS):
        expected = f"{(meta.cases, _PIXELS)} as {META_FILE} says"
        raise _fault(path, f"has data of shape {pixels.shape}, not {expected}")
    if type(labels) is not list or len(labels) != meta.cases or set(map(type, labels)) != {int}:
        raise _fault(path, f"has no list of {meta.cases} labels")
    last = len(meta.label_names) - 1
    for case, label in enumerate(labels):
        if not 0 <= label <= last:
            raise _fault(path, f"gives image {case} the label {label}, not 0 to {last}")
    return content, pixels, np.array(labels, np.int32)


def is_official(name: str, content: bytes) -> bool:
    """Whether this is the content of the official file of that name."""
    size, md5 = OFFICIAL[name]
    return len(content) == size and hashlib.md5(content).hexdigest() == md5
