"""ImageNet on the disk: find it, index it, name it. No image is opened here.

Any images in the layout of `imagenet_layout` will do, or in tar shards (`imagenet_shard_sets`), a folder's or a URL's;
a set with the official classes and numbers of images is named 'imagenet'.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, Optional, Sequence, Tuple, Union

from shared.errors import DataError
from shared.imagenet.download_cache import ShardCache, shown
from shared.imagenet.file_index import indexed
from shared.imagenet.layout import OFFICIAL_NAME, SPLITS, UNNAMED, faults, find, is_official, name_of, present, remarks
from shared.imagenet.shards.dataset import holds_shards, load_shards, missing_shards
from shared.imagenet.split import Split

FOLDER = "imagenet"  # the usual place, in the current folder

__all__ = ["FOLDER", "OFFICIAL_NAME", "UNNAMED", "ImageNet", "Split", "find", "load"]


@dataclass(frozen=True, eq=False)
class ImageNet:
    """An indexed data set: labels are positions in `classes`, the sorted names of the class folders.

    `name` is 'imagenet' for the official classes and numbers of images alone. `train` is None where val/ alone was
    asked for. `fingerprint` is the SHA-256 of the splits that were loaded, their files' relative names and sizes, so
    that of val/ alone is another one. `remarks` are what a user should know, such as how many files were left out.
    Without `named` the classes are numbers, of shards that come without names.
    """

    name: str
    path: str
    classes: Tuple[str, ...] = field(repr=False)
    train: Optional[Split]
    val: Split
    fingerprint: str
    remarks: Tuple[str, ...]
    named: bool = True


def load(
    path: Union[str, Path],
    splits: Optional[Sequence[str]] = SPLITS,
    name: Optional[str] = None,
    cache: Union[str, Path, None] = None,
    shard_cache: Optional[ShardCache] = None,
) -> ImageNet:
    """Find and index the data set. `splits` is ("train", "val"), or ("val",) for an evaluation: train/ may be missing.
    None: val/, and train/ where it is there.

    `name` takes the place of the name that the set would get, `cache` that of the folder in which the index is kept
    (see `imagenet_index`: a file rewritten in place goes unnoticed), `shard_cache` that of the one in which shards of a
    URL are. Raises DataError, one line, for whatever is wrong with folders or shards. Images that are damaged are found
    when they are read, or by the mode check-data.
    """
    parts: Dict[str, Split]
    if holds_shards(path):
        found = load_shards(path, splits, cache, shard_cache)
        for line in missing_shards(found.parts.values()):
            raise DataError(line)
        parts = dict(found.parts)
        where, own_name, notes, named = found.where, found.name, found.notes, found.named
    else:
        root = find(path, ("val",) if splits is None else splits)
        splits = present(root) if splits is None else splits
        parts = {split: indexed(str(root / split), cache) for split in splits}
        where, own_name, notes, named = str(root), None, (), True
    loaded = list(parts.values())
    for line in faults(loaded):
        raise DataError(line)
    digest = hashlib.sha256("".join(f"{split} {part.fingerprint}\n" for split, part in parts.items()).encode())
    official = is_official(loaded)
    return ImageNet(
        name=name or (OFFICIAL_NAME if official else own_name or name_of(Path(shown(where)), False)),
        path=where,
        classes=parts["val"].classes,
        train=parts.get("train"),
        val=parts["val"],
        fingerprint=digest.hexdigest(),
        remarks=(*notes, *remarks(loaded)),
        named=named,
    )
