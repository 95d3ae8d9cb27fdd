"""The embedded sample: 1,797 real handwritten digits, ready to train on.

Ten classes, 8 x 8 pixels, 17 grey levels. A fixed permutation splits them into 1,495 training images (five files of
299) and 299 test images; three images are unused. They are enlarged in integer arithmetic, so the pixels are the same
on every machine. The files are written once, into a cache.

Source: the test part of "Optical Recognition of Handwritten Digits" by E. Alpaydin and C. Kaynak (1998), UCI Machine
Learning Repository, https://archive.ics.uci.edu/ml/datasets/Optical+Recognition+of+Handwritten+Digits, licensed
CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/); unchanged, in the order of scikit-learn's `load_digits`.
They are stored in `digits.bin` beside this file, compressed by zlib: the pixels of all images, then all labels, a byte
each.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import tempfile
import zlib
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple, Union

import numpy as np

from shared.cifar10 import dataset as cifar10
from shared.errors import DataError, UsageError
from shared.system.atomic_files import sync_files
from shared.system.cache_dir import places
from shared.system.paths import reading

NAME = "sample-digits"
CASES = 299  # images per file
TRAIN_IMAGES = CASES * len(cifar10.TRAIN_FILES)
TEST_IMAGES = CASES
CLASSES = 10

_DIGITS = 1797
_FILE = Path(__file__).with_name("digits.bin")
_SHA256 = "ebdc9ff3d40ea662f807a776c2029e3a6f5eca5e57cd67e770f28bce43a16d1e"
_SUBFOLDER = "sample-v1"
_SPLIT_SEED = 0
_SPLITS = {"train": slice(0, TRAIN_IMAGES), "val": slice(TRAIN_IMAGES, TRAIN_IMAGES + TEST_IMAGES)}


def cifar10_folder(cache: Union[str, Path, None] = None) -> Path:
    """Return the folder with the sample in the CIFAR-10 layout, and write it if it is not there yet.

    Images are uint8 [32, 32, 3] (grey), 5 x 299 for training and 299 for testing, of the classes '0' to '9'. `cache` as
    in `cache_dir.places`. Raises UsageError when no folder can be written.
    """
    return _cached(cache, cifar10.FOLDER, _write_cifar10, _is_complete_cifar10)


def imagenet_folder(cache: Union[str, Path, None] = None) -> Path:
    """As `cifar10_folder`, in the ImageNet layout: train/<label>/*.JPEG, val/<label>/*.JPEG, 64 x 64 RGB."""
    return _cached(cache, "imagenet", _write_imagenet, _is_complete_imagenet)


def is_cached(path: Union[str, Path]) -> bool:
    """Whether `path` is a folder of the sample in some cache, which can be written again if it is gone."""
    return Path(path).parent.name == _SUBFOLDER


def load_digits() -> Tuple[np.ndarray, np.ndarray]:
    """Return uint8 [1797, 8, 8] in 0 .. 16 and int64 labels [1797] in 0 .. 9. Raises DataError."""
    with reading(_FILE, "install this project again"):
        stored = _FILE.read_bytes()
    if hashlib.sha256(stored).hexdigest() != _SHA256:
        raise DataError(f"{_FILE} is damaged; install this project again, or give --data-path")
    content = np.frombuffer(zlib.decompress(stored), np.uint8)
    return content[: _DIGITS * 64].reshape(_DIGITS, 8, 8), content[_DIGITS * 64 :].astype(np.int64)


def _digits() -> Tuple[np.ndarray, np.ndarray]:
    """The digits in the order of the split: train, test, unused."""
    images, labels = load_digits()
    order = np.random.RandomState(_SPLIT_SEED).permutation(len(labels))
    return images[order], labels[order]


def _enlarged(images: np.ndarray, factor: int) -> np.ndarray:
    """Enlarge uint8 [N, H, W] in 0 .. 16 bilinearly, to uint8 [N, H * factor, W * factor] in 0 .. 255.

    Pixel centres are at half-integers and the border is repeated, as in TensorFlow 2's `resize`; halves are rounded up.
    """
    wide = images.astype(np.int64)
    for axis in (1, 2):
        size = wide.shape[axis]
        position = 2 * np.arange(size * factor) + 1 - factor  # in small pixels / (2 * factor)
        low, weight = position // (2 * factor), position % (2 * factor)
        weight = weight.reshape((-1, 1) if axis == 1 else (1, -1))
        below, above = np.clip(low, 0, size - 1), np.clip(low + 1, 0, size - 1)
        wide = wide.take(below, axis) * (2 * factor - weight) + wide.take(above, axis) * weight
    white = 16 * (2 * factor) ** 2
    return ((wide * 255 + white // 2) // white).astype(np.uint8)


def _write_cifar10(folder: Path) -> None:
    small, labels = _digits()
    pixels = np.tile(_enlarged(small, 4).reshape(-1, 1024), (1, 3))  # red, green and blue plane
    meta = {
        "num_cases_per_batch": CASES,
        "label_names": [str(label) for label in range(CLASSES)],
        "num_vis": 3072,
        "dataset_name": NAME,
    }
    files: Dict[str, Dict[str, Any]] = {cifar10.META_FILE: meta}
    for number, name in enumerate(cifar10.FILES):
        part = slice(number * CASES, (number + 1) * CASES)
        files[name] = {
            "batch_label": f"{NAME}, {name}",
            "labels": labels[part].tolist(),
            "data": pixels[part],
            "filenames": _file_names(labels)[part],
        }
    for name, values in files.items():
        (folder / name).write_bytes(pickle.dumps(values, protocol=2))
    sync_files(folder)


def _write_imagenet(folder: Path) -> None:
    try:
        from PIL import Image
    except ImportError as error:
        raise UsageError("the sample as JPEGs needs Pillow; pip install Pillow, or give --data-path") from error
    small, labels = _digits()
    for part, split in _SPLITS.items():
        for label in range(CLASSES):
            (folder / part / str(label)).mkdir(parents=True)
        for name, image, label in zip(_file_names(labels)[split], _enlarged(small[split], 8), labels[split]):
            target = folder / part / str(label) / name
            Image.fromarray(image).convert("RGB").save(str(target), "JPEG", quality=95)


def _file_names(labels: np.ndarray) -> List[str]:
    return [f"digit_{label}_{index:04d}.JPEG" for index, label in enumerate(labels)]


def _is_complete_cifar10(folder: Path) -> bool:
    """Whether all files have their full size: temporary folders are cleaned, and power fails."""
    try:
        cifar10.check(folder)
    except UsageError:
        return False
    return True


def _is_complete_imagenet(folder: Path) -> bool:
    return all(
        sum(path.stat().st_size > 0 for path in (folder / part).glob("*/*.JPEG")) == split.stop - split.start
        for part, split in _SPLITS.items()
    )


def _cached(
    cache: Union[str, Path, None], name: str, write: Callable[[Path], None], is_complete: Callable[[Path], bool]
) -> Path:
    """Return the folder `name` in the first folder of the cache that holds it completely or can be written."""
    failures = []
    for root in places(_SUBFOLDER, cache):
        try:
            return root / name if is_complete(root / name) else _written(root, name, write, is_complete)
        except OSError as error:
            failures.append(f"{root} ({error.strerror or error})")
    where = " or ".join(failures) or "the user's home (there is none)"
    raise UsageError(f"cannot write the embedded sample to {where}; set KIT_CACHE to a folder that can be written")


def _written(root: Path, name: str, write: Callable[[Path], None], is_complete: Callable[[Path], bool]) -> Path:
    """Write a temporary folder and rename it, so that other processes see all of it or nothing."""
    target = root / name
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="." + name + ".", dir=str(root)) as temporary:
        fresh = Path(temporary) / name
        fresh.mkdir()
        write(fresh)
        for incomplete in ("incomplete-0", "incomplete-1", ""):
            try:
                os.rename(str(fresh), str(target))
                break
            except OSError:
                if is_complete(target):  # another process was faster
                    break
                if not incomplete or not target.is_dir():
                    raise
                with contextlib.suppress(FileNotFoundError):  # another process may just have moved it
                    os.rename(str(target), str(Path(temporary) / incomplete))
    return target
