"""ImageNet on the disk: find it, index it, name it. No image is opened here.

Any images in the layout of `imagenet.layout` are accepted, and tar shards (`imagenet.shards`) in a folder or at a URL.

The index of a folder is kept between runs: 1.28 million files need not be listed at every start. It is valid as long as
the split's folder and all class folders have the names and times that they had when they were listed. Writing to a file
in place changes none: its size, and so the fingerprint, stay those of the first start until the index is built again.
"""

from __future__ import annotations

import hashlib
import io
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, Optional, Sequence, Tuple, Union

import numpy as np

from shared.errors import DataError
from shared.imagenet.download_cache import ShardCache, shown
from shared.imagenet.layout import OFFICIAL_NAME, SPLITS, faults, find, is_official, name_of, present, remarks
from shared.imagenet.shards.dataset import holds_shards, load_shards
from shared.imagenet.split import INNER, LeftOut, Split, class_folders, listing, read_arrays, scan
from shared.system import cache_dir
from shared.text import of_system

FOLDER = "imagenet"  # the default, in the current folder

_SUBFOLDER = "imagenet-index-v1"  # the number changes with the content
_ARRAYS = ("stamp", "counts", "names", "lengths", "left_out", "fingerprint")


@dataclass(frozen=True, eq=False)
class ImageNet:
    """An indexed data set. Labels are indices of `classes`, the sorted names of the class folders."""

    name: str  # 'imagenet' only for the official classes and numbers of images
    path: str
    classes: Tuple[str, ...] = field(repr=False)
    train: Optional[Split]  # None if only val/ was loaded
    val: Split
    fingerprint: str  # the SHA-256 of relative names and sizes of all files in the loaded splits
    remarks: Tuple[str, ...]  # lines for the user, such as how many files were left out
    named: bool = True  # or the classes are numbers, of shards without names


def load(
    path: Union[str, Path],
    splits: Optional[Sequence[str]] = SPLITS,
    name: Optional[str] = None,
    cache: Union[str, Path, None] = None,
    shard_cache: Optional[ShardCache] = None,
) -> ImageNet:
    """Find and index the data set.

    `splits` is ("train", "val"), ("val",) for an evaluation, or None for val/ and, if it exists, train/. `name`
    replaces the name of the set, `cache` is the folder of the kept index as in `cache_dir.places`, `shard_cache` that
    of remote shards. Raises DataError, one line, if folders or shards are faulty.
    """
    if holds_shards(path):
        found = load_shards(path, splits, cache, shard_cache)
        for part in found.parts.values():
            part.check_files()
        parts: Dict[str, Split] = {**found.parts}
        where, own_name, notes, named = found.where, found.name, found.notes, found.named
    else:
        root = find(path, ("val",) if splits is None else splits)
        parts = {split: indexed(str(root / split), cache) for split in splits or present(root)}
        where, own_name, notes, named = str(root), None, (), True
    loaded = list(parts.values())
    for line in faults(loaded):
        raise DataError(line)
    digest = hashlib.sha256("".join(f"{split} {part.fingerprint}\n" for split, part in parts.items()).encode())
    official = is_official(loaded)
    return ImageNet(
        name=name or (OFFICIAL_NAME if official else own_name or name_of(Path(shown(where)))),
        path=where,
        classes=parts["val"].classes,
        train=parts.get("train"),
        val=parts["val"],
        fingerprint=digest.hexdigest(),
        remarks=(*notes, *remarks(loaded)),
        named=named,
    )


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
    return (classes, *cache_dir.stamp_of([*folders, *filter(os.path.isdir, inner)]))


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
