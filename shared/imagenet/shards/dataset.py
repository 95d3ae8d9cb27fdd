"""Data sets in tar shards: find them in a folder or at a URL, and build splits of them.

With an index (`shards.index`) a set has the classes, counts and fingerprint of the folder that it was written from.
Without one, in a local folder only, the headers of all shards are scanned (`shards.tar_scan`): then a class is known by
its number, or by its line in `classnames.txt` or `classes.txt` beside the shards.
"""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import hashlib
import os
import re
from pathlib import Path
from typing import Container, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from shared.errors import DataError, one_line
from shared.imagenet.download_cache import Remote, ShardCache, is_url, make_cache, read_small, shown
from shared.imagenet.extent_reader import Extent, ExtentReader
from shared.imagenet.shards.index import FILE, MAX_BYTES, ArrayFile, ShardFile, Table, read_index, unpack
from shared.imagenet.shards.split import Shard, ShardSplit
from shared.imagenet.shards.tar_scan import listed_shards
from shared.imagenet.split import LeftOut, listing
from shared.system.paths import expanded, reading
from shared.text import decoded

_CLASS_FILES = ("classnames.txt", "classes.txt")
_FOLDERS = {"train": ("train",), "val": ("val", "validation")}
_NAMES = {
    split: re.compile(rf"(?:.*[-_.])?(?:{'|'.join(words)})[-_.].*\d\.tar\Z", re.IGNORECASE)
    for split, words in _FOLDERS.items()
}
_CLASS_ARCHIVE = re.compile(r"n\d{8}\.tar\Z")  # an archive of one class, as in the official train archive: no shard


class ShardSet(NamedTuple):
    """A data set in shards."""

    where: str  # its absolute folder or its URL
    name: Optional[str]  # according to its index
    parts: Dict[str, ShardSplit]
    notes: Tuple[str, ...]  # lines for the user
    named: bool = True  # or the classes are numbers


def holds_shards(path: Union[str, Path]) -> bool:
    """Whether this is a URL or a folder of shards: one with an index, or with tar files named as shards are."""
    return has_index(path) or bool(plain_shards(path))


def has_index(path: Union[str, Path]) -> bool:
    """Whether the set has an index, which one at a URL must have."""
    return is_url(path) or os.path.isfile(os.path.join(expanded(path), FILE))


def plain_shards(path: Union[str, Path]) -> List[str]:
    """The absolute paths of all shards of a folder without an index."""
    folder = os.path.abspath(expanded(path))
    return [shard for split in _FOLDERS for shard in _shards_of(folder, split)]


def load_shards(
    path: Union[str, Path],
    splits: Optional[Sequence[str]],
    cache_folder: Union[str, Path, None] = None,
    shard_cache: Optional[ShardCache] = None,
) -> ShardSet:
    """Find the splits and where their images are. Raises DataError, one line.

    `splits` None means val, and train if it is there. `cache_folder`, as in `cache_dir.places`, keeps the list of a set
    without an index, `shard_cache` the shards of a URL (default: `make_cache()`).
    """
    if is_url(path):
        return _with_index(str(path).rstrip("/"), splits, shard_cache or make_cache())
    folder = os.path.abspath(expanded(path))
    if has_index(folder):
        return _with_index(folder, splits, None)
    return _without_index(folder, splits, cache_folder)


def _selected(splits: Optional[Sequence[str]], there: Container[str], where: str) -> Sequence[str]:
    if splits is None:
        splits = ("train", "val") if "train" in there else ("val",)
    for split in splits:
        if split not in there:
            raise DataError(f"{where} holds no shards of {split}; give a folder with {split}-000000.tar, ...")
    return splits


def _split(
    folder: str, classes: Sequence[str], shards: Sequence[Shard], table: Table, group: int, numbered: bool
) -> ShardSplit:
    """The split at `folder`, whose last part is its name."""
    return ShardSplit(
        folder=folder,
        classes=tuple(classes),
        left_out=LeftOut(),
        fingerprint=table.fingerprint(classes),
        shards=tuple(shards),
        shard=table.shard,
        starts=table.starts,
        sizes=table.sizes,
        numbered=numbered,
        group=group,
        **listing(table.counts, table.names, table.lengths),
    )


def _with_index(root: str, splits: Optional[Sequence[str]], shard_cache: Optional[ShardCache]) -> ShardSet:
    """The set in a local folder, or at a URL with a cache for its files."""

    def located(entry: Union[ArrayFile, ShardFile]) -> Union[str, Remote]:
        place = f"{root}/{entry.name}"
        return place if shard_cache is None else Remote(place, entry.bytes, entry.sha256, shard_cache)

    notes: List[str] = []
    where = shown(root)
    if shard_cache is None:
        with reading(f"{root}/{FILE}", "bring it back, or write the shards anew"), open(f"{root}/{FILE}", "rb") as file:
            index = read_index(file.read(MAX_BYTES), f"{where}/{FILE}")
    else:
        index = read_index(read_small(f"{root}/{FILE}", MAX_BYTES, notes), f"{where}/{FILE}")
    parts = {}
    for split in _selected(splits, index.splits, where):
        found = index.splits[split]
        shards = [Shard(one.name, located(one), one.bytes, one.sha256) for one in found.shards]
        sizes = [shard.size for shard in shards]
        with ExtentReader() as reader:
            arrays = reader.read(Extent(located(found.index), 0, found.index.bytes))
            notes += reader.take_notes()
        if hashlib.sha256(arrays).hexdigest() != found.index.sha256:
            raise DataError(
                f"{where}/{found.index.name} is damaged, its SHA-256 is not that of {FILE}; write the shards anew"
            )
        try:
            table = unpack(arrays, sizes)
            if len(table.counts) != len(index.classes) or len(table.lengths) != found.images:
                raise ValueError("classes or images")
        except ValueError as error:
            what = f"the index of {split} in {where} does not fit its shards ({error})"
            raise DataError(f"{what}; write them anew") from error
        group = len(shards) if shard_cache is None else max(1, shard_cache.limit // (4 * max([1, *sizes])))
        parts[split] = _split(f"{where}/{split}", index.classes, shards, table, group, numbered=True)
        parts[split].check_room()
    return ShardSet(root, index.name, parts, tuple(notes))


def _shards_of(folder: str, split: str) -> List[str]:
    """The paths of a split's shards, sorted; empty where the split has a folder of class folders."""
    for name in _FOLDERS[split]:
        found = _archives(os.path.join(folder, name))
        shards = [path for path in found if not _CLASS_ARCHIVE.match(os.path.basename(path))]
        if shards:
            return shards
    if any(os.path.isdir(os.path.join(folder, name)) for name in ("train", "val")):
        return []
    return [path for path in _archives(folder) if _NAMES[split].match(os.path.basename(path))]


def _archives(folder: str) -> List[str]:
    """The paths of the tar files in the folder that are not hidden, sorted."""
    return sorted(glob.glob(os.path.join(glob.escape(folder), "*.tar")))


def _without_index(folder: str, splits: Optional[Sequence[str]], cache_folder: Union[str, Path, None]) -> ShardSet:
    paths = {split: found for split, found in ((split, _shards_of(folder, split)) for split in _FOLDERS) if found}
    tables = {split: listed_shards(paths[split], cache_folder) for split in _selected(splits, paths, folder)}
    most = max(len(table.counts) for table in tables.values())
    names = _class_names(folder)
    classes = names or [str(number) for number in range(most)]
    if len(classes) < most:
        what = f"{folder} has images of class {most - 1} and {len(classes)} names of classes"
        raise DataError(f"{what}; complete the names")
    parts = {}
    for split, table in tables.items():
        shards = [Shard(os.path.relpath(path, folder), path, os.path.getsize(path)) for path in paths[split]]
        counts = np.pad(table.counts, (0, len(classes) - len(table.counts)), "constant")
        table = dataclasses.replace(table, counts=counts)
        parts[split] = _split(f"{folder}/{split}", classes, shards, table, len(shards), numbered=False)
    return ShardSet(folder, None, parts, (), bool(names))


def _class_names(folder: str) -> List[str]:
    for name in _CLASS_FILES:
        with contextlib.suppress(OSError), open(os.path.join(folder, name), "rb") as file:
            lines = decoded(file.read(MAX_BYTES)).splitlines()
            return [one_line(line.strip()) for line in lines if line.strip()]
    return []
