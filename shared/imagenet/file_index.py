"""The index of a split, kept from one start to the next: 1.28 million files need not be listed every time.

A kept index holds as long as the split's folder and all class folders have the names and the times that they had when
they were listed, which is some 2,000 questions to the file system in place of 1.28 million. A file that is added,
removed or renamed changes its folder's time. A file that is written to in place changes none: its size, and so the
fingerprint, stay those of the first start until the index is made anew. Deleting the cache is always safe.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import itertools
import os
import time
from pathlib import Path
from typing import Dict, List, Optional, Tuple, Union

import numpy as np

from shared.errors import DataError
from shared.imagenet.split import INNER, LeftOut, Split, class_folders, scan
from shared.system import cache_dir
from shared.system.atomic_files import write_atomic
from shared.text import of_system, raw

_SUBFOLDER = "imagenet-index-v1"  # another number for another content
_TICK_NS = 2 * 10**9  # the coarsest clock of a file system in use, FAT's


def indexed(folder: str, cache_folder: Union[str, Path, None] = None) -> Split:
    """Return what `imagenet_split.scan` returns, from the cache where that still holds.

    `cache_folder` as in `cache.places`. A cache that is damaged, or can be neither read nor written, is as good as
    none. Raises DataError as `scan` does.
    """
    folder = os.path.abspath(folder)
    name = hashlib.sha256(os.fsencode(folder)).hexdigest() + ".npz"
    places = list(cache_dir.places(_SUBFOLDER, cache_folder))
    now = time.time_ns()
    classes, stamp, newest = _state(folder)
    for place in places:
        kept = _read(place / name, folder, classes, stamp)
        if kept is not None:
            return kept
    split = scan(folder)
    if now - newest > _TICK_NS:  # else one more change could follow within the same tick and leave the time as it is
        _write(places, name, split, stamp)
    return split


def _state(folder: str) -> Tuple[Tuple[str, ...], str, int]:
    """Return the classes, a digest of names and times of all folders with images, and the newest of the times.

    The time of the last change of state is looked at too, because the other one can be set back, as rsync does.
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


def _write(places: List[Path], name: str, split: Split, stamp: str) -> None:
    """Write to the first place that takes it."""
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
    for place in places:
        with contextlib.suppress(OSError):
            place.mkdir(parents=True, exist_ok=True)
            write_atomic(place / name, content.getvalue())
            return


def _read(path: Path, folder: str, classes: Tuple[str, ...], stamp: str) -> Optional[Split]:
    """Return the kept split if it is whole and of this stamp."""
    try:
        with np.load(str(path), allow_pickle=False) as file:
            if file["stamp"].tobytes() != stamp.encode():
                return None
            values = {name: file[name] for name in ("counts", "names", "lengths", "left_out", "fingerprint")}
        return _split(folder, classes, values)
    except Exception:  # numpy and zipfile raise some ten kinds at damaged files, and whichever it is, it is scanned
        return None


def _split(folder: str, classes: Tuple[str, ...], values: Dict[str, np.ndarray]) -> Split:
    """Raises ValueError where the values do not fit together."""
    counts, lengths = values["counts"].astype(np.int64), values["lengths"].astype(np.int64)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    names = values["names"].tobytes()
    if len(counts) != len(classes) or counts.min(initial=0) < 0 or counts.sum() != len(lengths):
        raise ValueError("counts")
    if offsets[-1] != len(names):
        raise ValueError("names")
    return Split(
        folder=folder,
        classes=classes,
        labels=np.repeat(np.arange(len(classes), dtype=np.int32), counts),
        names=names,
        offsets=offsets,
        left_out=LeftOut(*values["left_out"].tolist()),
        fingerprint=values["fingerprint"].tobytes().decode("ascii"),
    )


def _bytes(content: bytes) -> np.ndarray:
    return np.frombuffer(content, np.uint8)
