"""The index of a split, kept between runs: 1.28 million files need not be listed at every start.

It is valid as long as the split's folder and all class folders have the names and times that they had when they were
listed, which takes some 2,000 calls of `stat`. Adding, removing or renaming a file changes the time of its folder.
Writing to a file in place changes none: its size, and so the fingerprint, stay those of the first start until the index
is built again. The cache may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import io
import os
import time
from pathlib import Path
from typing import Dict, Iterable, Tuple, Union

import numpy as np

from shared.imagenet.split import INNER, LeftOut, Split, class_folders, listing, scan
from shared.system import cache_dir
from shared.system.paths import reading
from shared.text import of_system

_SUBFOLDER = "imagenet-index-v1"  # the number changes with the content
_ARRAYS = ("stamp", "counts", "names", "lengths", "left_out", "fingerprint")


def indexed(folder: str, cache_folder: Union[str, Path, None] = None) -> Split:
    """Return what `scan` returns, from the cache while that is valid. `cache_folder` as in `cache_dir.places`."""
    folder = os.path.abspath(folder)
    classes, stamp, keep = _state(folder)
    return cache_dir.cached(
        (_SUBFOLDER, hashlib.sha256(os.fsencode(folder)).hexdigest() + ".npz", cache_folder),
        load=lambda content: _unpack(content, folder, classes, stamp),
        make=lambda: scan(folder),
        dump=lambda split: _pack(split, stamp),
        keep=keep,
    )


def _state(folder: str) -> Tuple[Tuple[str, ...], str, bool]:
    """Return the classes, and the stamp of all folders with images."""
    classes, _ = class_folders(folder)
    folders = [folder, *(os.path.join(folder, of_system(name)) for name in classes)]
    inner = [os.path.join(path, INNER) for path in folders[1:]]  # which few sets have
    return (classes, *stamp_of([*folders, *filter(os.path.isdir, inner)]))


def stamp_of(paths: Iterable[str]) -> Tuple[str, bool]:
    """A digest of names, sizes and times of files or folders, and whether they have not changed just now.

    ctime counts too, because mtime can be set back, as rsync does. Raises DataError if one is not there.
    """
    digest, newest, now = hashlib.sha256(), 0, time.time_ns()
    for path in paths:
        with reading(path, "check the disk"):
            status = os.stat(path)
        times = status.st_mtime_ns, status.st_ctime_ns
        digest.update(b"%b\0%d %d %d\n" % (os.fsencode(path), status.st_size, *times))
        newest = max(newest, *times)
    return digest.hexdigest(), now - newest > cache_dir.TICK_NS


def _pack(split: Split, stamp: str) -> bytes:
    content = io.BytesIO()
    np.savez(
        content,
        stamp=np.frombuffer(stamp.encode(), np.uint8),
        counts=split.class_counts(),
        names=np.frombuffer(split.names, np.uint8),
        lengths=np.diff(split.offsets).astype(np.uint16),
        left_out=np.array(split.left_out),
        fingerprint=np.frombuffer(split.fingerprint.encode(), np.uint8),
    )
    return content.getvalue()


def _unpack(content: bytes, folder: str, classes: Tuple[str, ...], stamp: str) -> Split:
    """The split in the index; raises an exception where that is damaged or has another stamp."""
    values = read_arrays(content, _ARRAYS)
    counts, names, lengths = values["counts"], values["names"].tobytes(), values["lengths"]
    fits = (len(counts), counts.sum(), lengths.sum()) == (len(classes), len(lengths), len(names))
    if not fits or values["stamp"].tobytes() != stamp.encode():
        raise ValueError("another state of the folder")
    return Split(
        folder=folder,
        classes=classes,
        left_out=LeftOut(*values["left_out"].tolist()),
        fingerprint=values["fingerprint"].tobytes().decode("ascii"),
        **listing(counts, names, lengths),
    )


def read_arrays(content: bytes, names: Iterable[str]) -> Dict[str, np.ndarray]:
    """Return the named arrays of a .npz file. Raises ValueError where one is missing or the file is damaged."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            return {name: file[name] for name in names}
    except Exception as error:  # NumPy and zipfile raise some ten kinds at damaged files
        raise ValueError("no array file") from error
