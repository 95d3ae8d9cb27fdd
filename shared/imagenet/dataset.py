"""ImageNet on the disk: find it, index it, name it. No image is opened here.

Any images in the layout of `imagenet.layout` are accepted, and tar shards (`imagenet.shards`) in a folder or at a URL.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, Optional, Sequence, Tuple, Union

from shared.errors import DataError
from shared.imagenet.download_cache import ShardCache, shown
from shared.imagenet.file_index import indexed
from shared.imagenet.layout import OFFICIAL_NAME, SPLITS, faults, find, is_official, name_of, present, remarks
from shared.imagenet.shards.dataset import holds_shards, load_shards
from shared.imagenet.split import Split

FOLDER = "imagenet"  # the default, in the current folder


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
    replaces the name of the set, `cache` the folder of the kept index (see `file_index`), `shard_cache` the cache of
    remote shards. Raises DataError, one line, if folders or shards are faulty.
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
