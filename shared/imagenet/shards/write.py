"""Write ImageNet as tar shards with an index: the complete folder, or nothing.

Training images are shuffled over all classes by a permutation that is the same on every machine; others keep their
order. The members are plain ustar without time and owner, so that the same images give the same bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import tarfile
import time
from pathlib import Path
from typing import Callable, List, Optional, Sequence, Union

import numpy as np

from shared.errors import UsageError
from shared.imagenet.download_cache import digest
from shared.imagenet.extent_reader import ExtentReader
from shared.imagenet.layout import counted
from shared.imagenet.shards.index import FILE, FORMAT, VERSION, ArrayFile, Index, ShardFile, SplitIndex, Table, pack
from shared.imagenet.shards.split import key_of, member_name
from shared.imagenet.split import Split
from shared.rng import epoch_order
from shared.system.atomic_files import complete, write_atomic
from shared.system.paths import expanded, writing

_PROGRESS_SECONDS = 10.0
# Bytes of a sample besides its image (two headers, padding, the class), and of the end of a shard.
_ROOM = 6 * tarfile.BLOCKSIZE + tarfile.RECORDSIZE
_MIX_SEED = 0

Say = Callable[[str], None]


def write_shards(
    name: str,
    parts: Sequence[Split],
    folder: Union[str, Path],
    shard_bytes: int,
    say: Say,
    pause: Callable[[], None] = lambda: None,
) -> None:
    """Write the splits of the set `name` to a new `folder`, in shards of at most about `shard_bytes` bytes.

    `pause` is called between images and may raise; then, and after any other failure, nothing is left. Raises
    UsageError if the folder exists or cannot be written, DataError if an image cannot be read.
    """
    target = Path(os.path.abspath(expanded(folder)))
    if os.path.lexists(str(target)):
        raise UsageError(f"{target} is there already; name another folder with --write-shards, or remove it")
    with writing(target, "make room, or name another folder with --write-shards"), complete(target) as place:
        place.mkdir()
        splits = {part.subset: _write_split(part, place, shard_bytes, say, pause) for part in parts}
        write_atomic(place / FILE, Index(FORMAT, VERSION, name, parts[0].classes, splits).to_json())


def _write_split(part: Split, place: Path, shard_bytes: int, say: Say, pause: Callable[[], None]) -> SplitIndex:
    images = len(part)
    order = epoch_order(_MIX_SEED, 0, images) if part.subset == "train" else np.arange(images)
    shard, starts, sizes = np.zeros(images, np.int32), np.zeros(images, np.int64), np.zeros(images, np.int64)
    shards: List[ShardFile] = []
    writer: Optional[_ShardWriter] = None
    spoken = time.monotonic()
    with ExtentReader() as reader, contextlib.ExitStack() as files:
        for done, index in enumerate(order.tolist()):
            pause()
            content = reader.read(part.extent(index))
            if writer is None or writer.end + len(content) + _ROOM > shard_bytes:
                shards += [writer.finished()] if writer else []
                writer = _ShardWriter(place / f"{part.subset}-{len(shards):06d}.tar", files)
            shard[index], sizes[index] = len(shards), len(content)
            starts[index] = writer.add(member_name(index, part.file_name(index)), content, int(part.labels[index]))
            if time.monotonic() - spoken >= _PROGRESS_SECONDS:
                spoken = time.monotonic()
                say(f"{part.subset}: written {done:,} of {images:,} images")
        shards += [writer.finished()] if writer else []
    total = sum(one.bytes for one in shards) / 2**20
    say(f"{part.subset}: {counted(images, 'image')} in {counted(len(shards), 'shard')}, {total:,.1f} MiB")
    table = Table(part.class_counts(), part.names, np.diff(part.offsets), shard, starts, sizes)
    path, content = place / f"{part.subset}-index.npz", pack(table)
    write_atomic(path, content)
    return SplitIndex(images, ArrayFile(path.name, len(content), hashlib.sha256(content).hexdigest()), tuple(shards))


class _ShardWriter:
    """A shard while it is written; `files` closes it, after an exception without the end of an archive."""

    def __init__(self, path: Path, files: contextlib.ExitStack) -> None:
        self._path, self._files, self._images = path, files, 0
        archive = tarfile.open(str(path), "w:", format=tarfile.USTAR_FORMAT)  # noqa: SIM115
        self._archive = files.enter_context(archive)

    @property
    def end(self) -> int:
        """The number of bytes written so far."""
        return self._archive.offset

    def add(self, member: str, content: bytes, label: int) -> int:
        """Add an image and its class; return the position of the image's first byte."""
        start = self.end + tarfile.BLOCKSIZE
        for name, data in ((member, content), (key_of(member) + ".cls", str(label).encode("ascii"))):
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o644
            self._archive.addfile(info, io.BytesIO(data))
            self._archive.members = []  # type: ignore[attr-defined]  # which would grow with every member
        self._images += 1
        return start

    def finished(self) -> ShardFile:
        """Close the shard and return its entry in the index."""
        self._files.close()
        size, sha256 = digest(str(self._path))
        return ShardFile(self._path.name, size, self._images, sha256)
