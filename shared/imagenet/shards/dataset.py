"""Data sets in tar shards: find them in a folder or at a URL, and make splits of them.

With an index (`shards.json`, see `imagenet_shard_index`) a set is the folder that it was written from: the same
classes, numbers of images and fingerprint. Without, in a local folder alone, the headers of all shards are read (see
`imagenet_shard_list`): a class is then known by its number, or by the lines of a `classnames.txt` or `classes.txt`
beside the shards.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from pathlib import Path
from typing import Callable, Container, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from shared.errors import DataError, one_line
from shared.imagenet.download_cache import Remote, ShardCache, is_url, make_cache, opened, read_small, shown
from shared.imagenet.shards.index import FILE, MAX_BYTES, Index, Listed, Table, read_index, unpack
from shared.imagenet.shards.split import Shard, ShardSplit
from shared.imagenet.shards.tar_scan import listed_shards
from shared.imagenet.split import LeftOut, is_hidden
from shared.system.paths import expanded
from shared.text import decoded, raw

_CLASS_FILES = ("classnames.txt", "classes.txt")
_FOLDERS = {"train": ("train",), "val": ("val", "validation")}
_NAMES = {
    split: re.compile(rf"(?:.*[-_.])?(?:{'|'.join(words)})[-_.].*\d\.tar\Z", re.IGNORECASE)
    for split, words in _FOLDERS.items()
}
_CLASS_ARCHIVE = re.compile(r"n\d{8}\.tar\Z")  # as the official train archive holds them: no shard


class ShardSet(NamedTuple):
    """Where a set is, its own name where its index says one, its splits, and what is to be said of them.

    Without `named` its classes are numbers that nobody has named.
    """

    where: str
    name: Optional[str]
    parts: Dict[str, ShardSplit]
    notes: Tuple[str, ...]
    named: bool = True


def holds_shards(path: Union[str, Path]) -> bool:
    """Whether this is a URL or a folder of shards: one with an index, or with tar files named as shards are."""
    return has_index(path) or bool(plain_shards(path))


def has_index(path: Union[str, Path]) -> bool:
    """Whether the set has an index; one of a URL must."""
    return is_url(path) or os.path.isfile(os.path.join(expanded(path), FILE))


def plain_shards(path: Union[str, Path]) -> List[str]:
    """The absolute paths of all shards of a folder without an index."""
    folder = os.path.abspath(expanded(path))
    return [shard for split in ("train", "val") for shard in _found(folder)[split]]


def load_shards(
    path: Union[str, Path],
    splits: Optional[Sequence[str]],
    cache_folder: Union[str, Path, None] = None,
    shard_cache: Optional[ShardCache] = None,
    pause: Callable[[], None] = lambda: None,
) -> ShardSet:
    """Find the splits and where their images are; None: val, and train where it is there. Raises DataError, one line.

    `cache_folder` is where the list of shards without an index is kept, as in `cache.places`; `shard_cache` where those
    of a URL are (default: `make_cache()`). `pause` is called at times while headers are read and may raise.
    """
    if is_url(path):
        return _remote(str(path).rstrip("/"), splits, shard_cache or make_cache())
    folder = os.path.abspath(expanded(path))
    if os.path.isfile(os.path.join(folder, FILE)):
        return _indexed(folder, splits)
    return _plain(folder, splits, cache_folder, pause)


# -- with an index -----------------------------------------------------------------------------------


def _indexed(folder: str, splits: Optional[Sequence[str]]) -> ShardSet:
    place = os.path.join(folder, FILE)
    try:
        with open(place, "rb") as file:
            index = read_index(file.read(MAX_BYTES), place)
    except OSError as error:
        raise DataError(f"cannot read {place} ({error.strerror or error}); check the disk") from error
    parts = {}
    for split in _asked(index, splits, folder):
        found = index.splits[split]
        content = _arrays(os.path.join(folder, found.arrays.name), found.arrays)
        shards = [Shard(one.name, os.path.join(folder, one.name), one.size, one.sha256) for one in found.shards]
        parts[split] = _split(folder, split, index, shards, content, None)
    return ShardSet(folder, index.name, parts, ())


def _remote(url: str, splits: Optional[Sequence[str]], shard_cache: ShardCache) -> ShardSet:
    notes: List[str] = []
    index = read_index(read_small(f"{url}/{FILE}", MAX_BYTES, notes), f"{shown(url)}/{FILE}")
    parts = {}
    for split in _asked(index, splits, shown(url)):
        found = index.splits[split]
        shards = [
            Shard(one.name, Remote(f"{url}/{one.name}", one.size, one.sha256, shard_cache), one.size, one.sha256)
            for one in found.shards
        ]
        arrays = found.arrays
        with opened(Remote(f"{url}/{arrays.name}", arrays.size, arrays.sha256, shard_cache), notes) as file:
            content = file.read()
        largest = max((shard.size for shard in shards), default=0)
        group = max(1, shard_cache.limit // (4 * max(1, largest)))
        parts[split] = _split(shown(url), split, index, shards, content, group)
        parts[split].check_room()
    return ShardSet(url, index.name, parts, tuple(notes))


def _asked(index: Index, splits: Optional[Sequence[str]], where: str) -> Sequence[str]:
    splits = _present(splits, index.splits)
    for split in splits:
        if split not in index.splits:
            raise DataError(f"{where} holds no shards of {split}; give a set that has them with --data-path")
    return splits


def _present(splits: Optional[Sequence[str]], there: Container[str]) -> Sequence[str]:
    if splits is not None:
        return splits
    return ("train", "val") if "train" in there else ("val",)


def _arrays(path: str, listed: Listed) -> bytes:
    try:
        with open(path, "rb") as file:
            content = file.read(listed.size + 1)
    except OSError as error:
        raise DataError(f"cannot read {path} ({error.strerror or error}), which {FILE} names; bring it back") from error
    if hashlib.sha256(content).hexdigest() != listed.sha256:
        raise DataError(f"{path} is damaged, its SHA-256 is not that of {FILE}; write the shards anew")
    return content


def missing_shards(parts: Iterable[ShardSplit]) -> Iterator[str]:
    """What is wrong with local shards at first sight, a line each: one is not there, or not of its size."""
    for shard in (shard for part in parts for shard in part.shards if isinstance(shard.file, str)):
        try:
            size = os.path.getsize(str(shard.file))
        except OSError as error:
            yield f"cannot read {shard.file} ({error.strerror or error}); bring it back"
            continue
        if size != shard.size:
            yield f"{shard.file} has {size:,} bytes in place of {shard.size:,}; copy it anew"


def _split(
    where: str, split: str, index: Index, shards: Sequence[Shard], content: bytes, group: Optional[int]
) -> ShardSplit:
    try:
        table = unpack(content, len(index.classes), tuple(shard.size for shard in shards))
        if len(table.lengths) != index.splits[split].images:
            raise ValueError("images")
    except ValueError as error:
        raise DataError(
            f"the index of {split} in {where} does not fit its shards ({error}); write them anew"
        ) from error
    return _made(where, split, index.classes, shards, table, group, numbered=True)


def _made(
    where: str,
    split: str,
    classes: Sequence[str],
    shards: Sequence[Shard],
    table: Table,
    group: Optional[int],
    numbered: bool,
) -> ShardSplit:
    return ShardSplit(
        folder=f"{where}/{split}",
        classes=tuple(classes),
        labels=np.repeat(np.arange(len(classes), dtype=np.int32), table.counts),
        names=table.names,
        offsets=np.concatenate([np.zeros(1, np.int64), np.cumsum(table.lengths, dtype=np.int64)]),
        left_out=LeftOut(),
        fingerprint=table.fingerprint(tuple(map(raw, classes))),
        part=split,
        shards=tuple(shards),
        shard=table.shard,
        starts=table.starts,
        sizes=table.sizes,
        numbered=numbered,
        group=group,
    )


# -- without an index ---------------------------------------------------------------------------------


def _found(folder: str) -> Dict[str, List[str]]:
    """The paths of each split's shards, sorted; empty where the split has a folder of class folders."""
    return {split: _shards_of(folder, split) for split in _FOLDERS}


def _shards_of(folder: str, split: str) -> List[str]:
    for name in _FOLDERS[split]:
        inside = _names(os.path.join(folder, name))
        shards = [one for one in inside if one.endswith(".tar") and not _CLASS_ARCHIVE.match(one)]
        if shards:
            return sorted(os.path.join(folder, name, one) for one in shards)
    if any(os.path.isdir(os.path.join(folder, name)) for name in ("train", "val")):
        return []
    return sorted(os.path.join(folder, name) for name in _names(folder) if _NAMES[split].match(name))


def _names(folder: str) -> List[str]:
    try:
        return [name for name in os.listdir(folder) if not is_hidden(name)]
    except OSError:
        return []


def _plain(
    folder: str, splits: Optional[Sequence[str]], cache_folder: Union[str, Path, None], pause: Callable[[], None]
) -> ShardSet:
    paths = _found(folder)
    splits = _present(splits, [split for split in paths if paths[split]])
    for split in splits:
        if not paths[split]:
            raise DataError(f"{folder} holds no shards of {split}; give a folder with {split}-000000.tar, ...")
    tables = {split: listed_shards(paths[split], cache_folder, pause) for split in splits}
    most = max(len(table.counts) for table in tables.values())
    names = _class_names(folder)
    classes = names or [str(number) for number in range(most)]
    if len(classes) < most:
        raise DataError(
            f"{folder} has images of class {most - 1} and {len(classes)} names of classes; complete the names"
        )
    parts = {}
    for split, table in tables.items():
        shards = [Shard(os.path.relpath(path, folder), path, os.path.getsize(path)) for path in paths[split]]
        counts = np.concatenate([table.counts, np.zeros(len(classes) - len(table.counts), np.int64)])
        whole = Table(counts, table.names, table.lengths, table.shard, table.starts, table.sizes)
        parts[split] = _made(folder, split, classes, shards, whole, None, numbered=False)
    return ShardSet(folder, None, parts, (), bool(names))


def _class_names(folder: str) -> List[str]:
    for name in _CLASS_FILES:
        with contextlib.suppress(OSError):
            with open(os.path.join(folder, name), "rb") as file:
                lines = decoded(file.read(MAX_BYTES)).splitlines()
            return [one_line(line.strip()) for line in lines if line.strip()]
    return []
