"""The index of a split, kept between runs: 1.28 million files need not be listed at every start.

A kept index is valid as long as the split's folder and all class folders have the names and times that they had when
they were listed, which takes some 2,000 calls of `stat` in place of 1.28 million. Adding, removing or renaming a file
changes the time of its folder. Writing to a file in place changes none: its size, and so the fingerprint, stay those of
the first start until the index is built again. The cache may be deleted at any time.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import itertools
import os
import time
from pathlib import Path
from typing import Dict, Iterable, Tuple, Union

import numpy as np

from shared.errors import DataError
from shared.imagenet.split import INNER, LeftOut, Split, class_folders, scan
from shared.system import cache_dir
from shared.text import of_system, raw

_SUBFOLDER = "imagenet-index-v1"  # the number changes with the content
_ARRAYS = ("stamp", "counts", "names", "lengths", "left_out", "fingerprint")


def indexed(folder: str, cache_folder: Union[str, Path, None] = None) -> Split:
    """Return what `split.scan` returns, from the cache while that is valid.

    `cache_folder` as in `cache_dir.places`. A cache that is damaged, unreadable or not writable is ignored. Raises
    DataError as `scan` does.
    """
    folder = os.path.abspath(folder)
    now = time.time_ns()
    classes, stamp, newest = _state(folder)
    return cache_dir.cached(
        (_SUBFOLDER, hashlib.sha256(os.fsencode(folder)).hexdigest() + ".npz", cache_folder),
        load=lambda content: _unpack(content, folder, classes, stamp),
        make=lambda: scan(folder),
        dump=lambda split: _pack(split, stamp),
        keep=now - newest > cache_dir.TICK_NS,
    )


def read_arrays(content: bytes, names: Iterable[str]) -> Dict[str, np.ndarray]:
    """Return the named arrays of a .npz file. Raises ValueError where one is missing or the file is damaged."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            return {name: file[name] for name in names}
    except Exception as error:  # NumPy and zipfile raise some ten kinds at damaged files
        raise ValueError("no array file") from error


def _state(folder: str) -> Tuple[Tuple[str, ...], str, int]:
    """Return the classes, a digest of names and times of all folders with images, and the newest of the times (ns).

    ctime counts too, because mtime can be set back, as rsync does.
    """
    digest, newest = hashlib.sha256(), 0
    classes, _ = class_folders(folder)
    for name in itertools.chain(("",), classes, (f"{name}/{INNER}" for name in classes)):
        path = os.path.join(folder, of_system(name))
        try:
            status = os.stat(path)
        except OSError as error:
            if name.endswith(f"/{INNER}"):  # which few sets have
                continue
            raise DataError(f"cannot read {path} ({error.strerror or error}); check the disk") from error
        digest.update(b"%b\0%d %d\n" % (raw(name), status.st_mtime_ns, status.st_ctime_ns))
        newest = max(newest, status.st_mtime_ns, status.st_ctime_ns)
    return classes, digest.hexdigest(), newest


def _pack(split: Split, stamp: str) -> bytes:
    content = io.BytesIO()
    np.savez(
        content,
        stamp=_bytes(stamp.encode()),
        counts=split.class_counts(),
        names=_bytes(split.names),
        lengths=np.diff(split.offsets).astype(np.uint16),
        left_out=np.array(dataclasses.astuple(split.left_out)),
        fingerprint=_bytes(split.fingerprint.encode()),
    )
    return content.getvalue()


def _unpack(content: bytes, folder: str, classes: Tuple[str, ...], stamp: str) -> Split:
    """The split in the index; raises an exception where that is damaged or has another stamp."""
    values = read_arrays(content, _ARRAYS)
    counts, lengths = values["counts"].astype(np.int64), values["lengths"].astype(np.int64)
    names = values["names"].tobytes()
    if values["stamp"].tobytes() != stamp.encode():
        raise ValueError("stamp")
    if counts.shape != (len(classes),) or counts.min(initial=0) < 0 or lengths.shape != (counts.sum(),):
        raise ValueError("counts")
    if lengths.sum() != len(names):
        raise ValueError("names")
    return Split(
        folder=folder,
        classes=classes,
        labels=np.repeat(np.arange(len(classes), dtype=np.int32), counts),
        names=names,
        offsets=np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]),
        left_out=LeftOut(*values["left_out"].tolist()),
        fingerprint=values["fingerprint"].tobytes().decode("ascii"),
    )


def _bytes(content: bytes) -> np.ndarray:
    return np.frombuffer(content, np.uint8)
