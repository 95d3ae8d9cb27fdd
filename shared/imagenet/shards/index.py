"""The index of a set of shards: `shards.json` lists the files, an array file per split says where each image is.

    {"format": "se-pnas-kit-shards", "version": 1, "name": "imagenet", "classes": ["n01440764", ...],
     "splits": {"train": {"images": 1281167, "index": {"name": "train-index.npz", "bytes": ..., "sha256": "..."},
                          "shards": [{"name": "train-000000.tar", "bytes": ..., "images": ..., "sha256": "..."}, ...]},
                "val": {...}}}

The arrays are in the order of the images: by class, then by name. An index may come from anywhere, so every entry is
checked before it is used.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import re
from dataclasses import dataclass
from typing import Any, Dict, List, Sequence, Tuple, Union

import numpy as np

from shared.errors import DataError
from shared.imagenet.split import read_arrays
from shared.system.strict_json import typed
from shared.text import decoded, raw

FILE = "shards.json"
FORMAT, VERSION = "se-pnas-kit-shards", 1
MAX_BYTES = 64 * 2**20

_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.(tar|npz)\Z")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True)
class ArrayFile:
    """An entry of a file: its name in the set's folder, its size and its SHA-256."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class ShardFile:
    """An entry of a shard, with its number of images."""

    name: str
    bytes: int
    images: int
    sha256: str


@dataclass(frozen=True)
class SplitIndex:
    """The files of one split."""

    images: int
    index: ArrayFile
    shards: Tuple[ShardFile, ...]

    def is_valid(self) -> bool:
        """Whether no file is elsewhere or listed twice, and the numbers of images add up."""
        entries: List[Union[ArrayFile, ShardFile]] = [self.index, *self.shards]
        counts = [shard.images for shard in self.shards]
        return (
            all(_FILE_NAME.match(entry.name) and _SHA256.match(entry.sha256) and entry.bytes >= 0 for entry in entries)
            and len({entry.name for entry in entries}) == len(entries)
            and sum(counts) == self.images
            and min(counts, default=0) >= 0
        )


@dataclass(frozen=True)
class Index:
    """What `shards.json` holds."""

    format: str
    version: int
    name: str
    classes: Any  # a sequence of str: the names of folders, which may have characters that no line of text may show
    splits: Dict[str, SplitIndex]

    def to_json(self) -> str:
        """The text of the file."""
        return json.dumps(dataclasses.asdict(self), indent=1) + "\n"


def read_index(content: bytes, where: str) -> Index:
    """Return the index in `content`. Raises DataError, one line that names the file as `where`, for anything else."""
    try:
        found = json.loads(decoded(content))
        if found["format"] == FORMAT and found["version"] != VERSION:
            raise DataError(f"{where} is of version {found['version']}; use a newer version of this project")
        index = typed(Index, found)
        classes_are_valid = index.classes and all(isinstance(name, str) for name in index.classes)
        if index.format != FORMAT or not classes_are_valid or len(set(index.classes)) != len(index.classes):
            raise ValueError("format or classes")
        if not index.splits or not all(split.is_valid() for split in index.splits.values()):
            raise ValueError("splits")
        return index
    except DataError:
        raise
    except Exception as error:  # a damaged file, or one of another program, provokes many kinds
        raise DataError(f"{where} is no index of shards, or a damaged one; write the shards anew") from error


@dataclass(frozen=True, eq=False)
class Table:
    """Where the images of a split are: arrays [images], but for `counts` int64 [classes], the images of each class."""

    counts: np.ndarray
    names: bytes  # the files' own names, one after the other
    lengths: np.ndarray  # of the names, int64
    shard: np.ndarray  # int32
    starts: np.ndarray  # of the image's bytes in the shard, int64
    sizes: np.ndarray  # int64

    def fingerprint(self, classes: Sequence[str]) -> str:
        """The SHA-256 of relative names and sizes, equal to that of a folder with the same images."""
        digest, end = hashlib.sha256(), 0
        names = np.repeat(np.array([raw(name) for name in classes], object), self.counts)
        for name, length, size in zip(names, self.lengths.tolist(), self.sizes.tolist()):
            digest.update(b"%b/%b\0%d\n" % (name, self.names[end : end + length], size))
            end += length
        return digest.hexdigest()


def pack(table: Table) -> bytes:
    """The content of the array file, the same bytes on every machine."""
    content = io.BytesIO()
    arrays = dict(vars(table), names=np.frombuffer(table.names, np.uint8), lengths=table.lengths.astype(np.uint16))
    np.savez_compressed(content, **arrays)
    return content.getvalue()


def unpack(content: bytes, shards: Sequence[int]) -> Table:
    """The table in `content`, of shards of these sizes. Raises ValueError if it is damaged or leads out of them."""
    values = read_arrays(content, [field.name for field in dataclasses.fields(Table)])
    names = values.pop("names").astype(np.uint8).tobytes()
    table = Table(names=names, **{name: array.astype(np.int64) for name, array in values.items()})
    images, ends = len(table.lengths), np.array(shards, np.int64)
    if any(array.ndim != 1 or array.min(initial=0) < 0 for array in (getattr(table, name) for name in values)):
        raise ValueError("arrays")
    lengths = {table.counts.sum(), len(table.shard), len(table.starts), len(table.sizes)}
    if lengths != {images} or table.lengths.sum() != len(names):
        raise ValueError("counts")
    if images and (table.shard.max() >= len(shards) or (table.sizes > ends[table.shard] - table.starts).any()):
        raise ValueError("images beyond their shard")
    return dataclasses.replace(table, shard=table.shard.astype(np.int32))
