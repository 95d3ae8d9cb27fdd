"""The index of shards: `shards.json` says what the files are, an array file per split where each image is.

    {"format": "se-pnas-kit-shards", "version": 1, "name": "imagenet", "classes": ["n01440764", ...],
     "splits": {"train": {"images": 1281167, "index": {"name": "train-index.npz", "bytes": ..., "sha256": "..."},
                          "shards": [{"name": "train-000000.tar", "bytes": ..., "images": ..., "sha256": "..."}, ...]},
                "val": {...}}}

The arrays are ordered as the images are numbered: by class, then by name. An index from elsewhere is read with care:
nothing in it is believed before it fits together.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from shared.errors import DataError
from shared.text import decoded

FILE = "shards.json"
FORMAT, VERSION = "se-pnas-kit-shards", 1
MAX_BYTES = 64 * 2**20

_SHARD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.tar\Z")
_ARRAYS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.npz\Z")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True, eq=False)
class Table:
    """Where the images of a split are: arrays [images] but for `counts` int64 [classes], the images of each class."""

    counts: np.ndarray
    names: bytes  # the files' own names, one after the other
    lengths: np.ndarray  # of the names, int64
    shard: np.ndarray  # int32
    starts: np.ndarray  # of the image's bytes in the shard, int64
    sizes: np.ndarray  # int64

    def fingerprint(self, classes: Tuple[bytes, ...]) -> str:
        """The SHA-256 of relative names and sizes, which is that of the folder with the same images."""
        digest, end, image = hashlib.sha256(), 0, 0
        lengths, sizes = self.lengths.tolist(), self.sizes.tolist()
        for name, count in zip(classes, self.counts.tolist()):
            for length, size in zip(lengths[image : image + count], sizes[image : image + count]):
                digest.update(b"%b/%b\0%d\n" % (name, self.names[end : end + length], size))
                end += length
            image += count
        return digest.hexdigest()


@dataclass(frozen=True)
class Listed:
    """A file that the index names."""

    name: str
    size: int
    sha256: str
    images: int = 0


@dataclass(frozen=True)
class SplitIndex:
    """What `shards.json` says of a split."""

    images: int
    arrays: Listed
    shards: Tuple[Listed, ...]


@dataclass(frozen=True)
class Index:
    """What `shards.json` says."""

    name: str
    classes: Tuple[str, ...]
    splits: Dict[str, SplitIndex]

    def to_json(self) -> str:
        """The file's text."""
        splits = {
            name: {
                "images": split.images,
                "index": _entry(split.arrays, False),
                "shards": [_entry(shard, True) for shard in split.shards],
            }
            for name, split in self.splits.items()
        }
        content = {"format": FORMAT, "version": VERSION, "name": self.name, "classes": self.classes, "splits": splits}
        return json.dumps(content, indent=1) + "\n"


def read_index(content: bytes, where: str) -> Index:
    """Raises DataError, one line, where this is not such an index; `where` names the file."""
    try:
        found = json.loads(decoded(content))
        if found["format"] != FORMAT:
            raise ValueError("format")
        if found["version"] != VERSION:
            raise DataError(f"{where} is of version {found['version']}; use a newer version of this project")
        classes = tuple(_text(name) for name in found["classes"])
        splits = {name: _split(found["splits"][name]) for name in ("train", "val") if name in found["splits"]}
        if not classes or len(set(classes)) != len(classes) or not splits:
            raise ValueError("classes")
        return Index(_text(found["name"]), classes, splits)
    except DataError:
        raise
    except Exception as error:  # whatever another or a damaged file leads to
        raise DataError(f"{where} is no index of shards, or a damaged one; write the shards anew") from error


def pack(table: Table) -> bytes:
    """The array file, the same bytes on every machine."""
    content = io.BytesIO()
    np.savez_compressed(
        content,
        counts=table.counts,
        names=np.frombuffer(table.names, np.uint8),
        lengths=table.lengths.astype(np.uint16),
        shard=table.shard,
        starts=table.starts,
        sizes=table.sizes,
    )
    return content.getvalue()


def unpack(content: bytes, classes: Optional[int], shards: Tuple[int, ...]) -> Table:
    """Return the table of so many classes (None: any), in shards of these sizes. Raises ValueError where it is none."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            values = {field.name: file[field.name] for field in dataclasses.fields(Table)}
    except Exception as error:  # numpy and zipfile raise some ten kinds at damaged files
        raise ValueError("no array file") from error
    arrays = {name: values[name].astype(np.int64) for name in ("counts", "lengths", "shard", "starts", "sizes")}
    table = Table(names=values["names"].astype(np.uint8).tobytes(), **arrays)
    images = len(table.lengths)
    if any(array.ndim != 1 or array.min(initial=0) < 0 for array in arrays.values()):
        raise ValueError("arrays")
    if any(len(array) != images for array in (table.shard, table.starts, table.sizes)):
        raise ValueError("lengths of the arrays")
    if classes not in (None, len(table.counts)):
        raise ValueError("classes")
    if table.counts.sum() != images or table.lengths.sum() != len(table.names):
        raise ValueError("counts")
    ends = np.array(shards, np.int64)
    if images and (table.shard.max() >= len(shards) or (table.sizes > ends[table.shard] - table.starts).any()):
        raise ValueError("images beyond their shard")
    return dataclasses.replace(table, shard=table.shard.astype(np.int32))


def listed(path: Path, images: int, size: int, sha256: str) -> Listed:
    """The entry of a file that has been written."""
    return Listed(path.name, size, sha256, images)


# -- entries ---------------------------------------------------------------------------------------


def _entry(file: Listed, counted: bool) -> Dict[str, Any]:
    entry = {"name": file.name, "bytes": file.size, "images": file.images, "sha256": file.sha256}
    if not counted:
        del entry["images"]
    return entry


def _split(found: Dict[str, Any]) -> SplitIndex:
    shards = tuple(_listed(entry, _SHARD, True) for entry in found["shards"])
    split = SplitIndex(_number(found["images"]), _listed(found["index"], _ARRAYS, False), shards)
    names: List[str] = [shard.name for shard in shards]
    if len(set(names)) != len(names) or sum(shard.images for shard in shards) != split.images:
        raise ValueError("shards")
    return split


def _listed(entry: Dict[str, Any], form: Any, counted: bool) -> Listed:
    """A plain file name, so that no index leads out of its folder."""
    name, sha256 = _text(entry["name"]), _text(entry["sha256"])
    if not form.match(name) or not _SHA256.match(sha256):
        raise ValueError("name")
    return Listed(name, _number(entry["bytes"]), sha256, _number(entry["images"]) if counted else 0)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("text")
    return value


def _number(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**62:
        raise ValueError("number")
    return value
