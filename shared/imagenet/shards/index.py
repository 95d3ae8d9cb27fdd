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
from typing import Any, Dict, Sequence, Tuple

import numpy as np

from shared.errors import DataError
from shared.imagenet.file_index import read_arrays
from shared.system.strict_json import typed
from shared.text import decoded, raw

FILE = "shards.json"
FORMAT, VERSION = "se-pnas-kit-shards", 1
MAX_BYTES = 64 * 2**20

_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.(tar|npz)\Z")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True)
class ArrayFile:
    """An entry of a file: its name in the set's folder, its size and its SHA-256. Raises ValueError for others."""

    name: str
    bytes: int
    sha256: str

    def __post_init__(self) -> None:
        if not _FILE_NAME.match(self.name) or not _SHA256.match(self.sha256) or self.bytes < 0:
            raise ValueError(f"{self.name[:60]!r} is no entry of a file")


@dataclass(frozen=True)
class ShardFile:
    """An entry of a shard, as `ArrayFile`, with its number of images."""

    name: str
    bytes: int
    images: int
    sha256: str

    def __post_init__(self) -> None:
        ArrayFile(self.name, self.bytes, self.sha256)
        if self.images < 0:
            raise ValueError(f"{self.images} images")


@dataclass(frozen=True)
class SplitIndex:
    """The files of one split. Raises ValueError where a shard is listed twice or the numbers of images differ."""

    images: int
    index: ArrayFile
    shards: Tuple[ShardFile, ...]

    def __post_init__(self) -> None:
        names = {shard.name for shard in self.shards}
        if len(names) != len(self.shards) or sum(shard.images for shard in self.shards) != self.images:
            raise ValueError("shards")


@dataclass(frozen=True)
class Index:
    """What `shards.json` holds."""

    format: str
    version: int
    name: str
    classes: Any  # a sequence of str: the names of folders, which may have characters that no line of text may show
    splits: Dict[str, SplitIndex]

    def __post_init__(self) -> None:
        if self.format != FORMAT or not self.classes or len(set(self.classes)) != len(self.classes) or not self.splits:
            raise ValueError("format, classes or splits")
        if not all(isinstance(name, str) for name in self.classes):
            raise ValueError("classes")

    def to_json(self) -> str:
        """The text of the file."""
        return json.dumps(dataclasses.asdict(self), indent=1) + "\n"


def read_index(content: bytes, where: str) -> Index:
    """Return the index in `content`. Raises DataError, one line that names the file as `where`, for anything else."""
    try:
        found = json.loads(decoded(content))
        if found["format"] == FORMAT and found["version"] != VERSION:
            raise DataError(f"{where} is of version {found['version']}; use a newer version of this project")
        return typed(Index, found)
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
        digest, end, image = hashlib.sha256(), 0, 0
        lengths, sizes = self.lengths.tolist(), self.sizes.tolist()
        for name, count in zip(map(raw, classes), self.counts.tolist()):
            for length, size in zip(lengths[image : image + count], sizes[image : image + count]):
                digest.update(b"%b/%b\0%d\n" % (name, self.names[end : end + length], size))
                end += length
            image += count
        return digest.hexdigest()


def pack(table: Table) -> bytes:
    """The content of the array file, the same bytes on every machine."""
    content = io.BytesIO()
    arrays = dict(vars(table), names=np.frombuffer(table.names, np.uint8), lengths=table.lengths.astype(np.uint16))
    np.savez_compressed(content, **arrays)
    return content.getvalue()


def unpack(content: bytes, shards: Sequence[int]) -> Table:
    """Return the table in `content`, of shards of these sizes in bytes.

    Raises ValueError where it is damaged or points outside its shards.
    """
    values = read_arrays(content, [field.name for field in dataclasses.fields(Table)])
    names = values.pop("names").astype(np.uint8).tobytes()
    table = Table(names=names, **{name: array.astype(np.int64) for name, array in values.items()})
    images = len(table.lengths)
    if any(array.ndim != 1 or array.min(initial=0) < 0 for array in (getattr(table, name) for name in values)):
        raise ValueError("arrays")
    if any(len(array) != images for array in (table.shard, table.starts, table.sizes)):
        raise ValueError("lengths of the arrays")
    if table.counts.sum() != images or table.lengths.sum() != len(names):
        raise ValueError("counts")
    ends = np.array(shards, np.int64)
    if images and (table.shard.max() >= len(shards) or (table.sizes > ends[table.shard] - table.starts).any()):
        raise ValueError("images beyond their shard")
    return dataclasses.replace(table, shard=table.shard.astype(np.int32))
