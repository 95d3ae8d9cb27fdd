"""The samples of a shard, read from its tar headers. Nothing is extracted, and every irregularity is a fault."""

from __future__ import annotations

import itertools
import os
import re
import tarfile
from pathlib import Path
from typing import BinaryIO, Iterator, List, NamedTuple, Sequence, Set, Union

import numpy as np

from shared.errors import DataError
from shared.imagenet.shards.index import Table, pack, unpack
from shared.imagenet.shards.split import key_of
from shared.imagenet.split import is_hidden, is_image
from shared.system import cache_dir
from shared.system.paths import reading
from shared.system.signals import Stopped
from shared.text import decoded, raw

MAX_CLASSES = 100_000
_CLS_BYTES = 20
_NAME_CHARACTERS = 4096
_MEND = "write the shard anew"
_SUBFOLDER = "imagenet-shards-v1"  # the number changes with the content


class Sample(NamedTuple):
    """An image of a shard: its member's name, the position and number of its bytes, and the index of its class."""

    member: str
    start: int
    size: int
    label: int


def samples(path: str, shard: str) -> Iterator[Sample]:
    """Yield the samples of a shard in their order: consecutive members with the same key, an image and its .cls.

    `shard` is its name in messages. Other members and hidden ones are skipped. Raises DataError, one line, for a file
    that is no plain tar archive or is truncated, a link, a name that leads out of its folder, a sample without exactly
    one image and one class, or a repeated key.
    """
    seen: Set[str] = set()
    with reading(path, "check the disk"), open(path, "rb") as file:
        for key, members in itertools.groupby(_members(file, shard), lambda member: key_of(member.name)):
            if key in seen:
                raise DataError(f"{shard}: the key {key} comes twice; {_MEND}")
            seen.add(key)
            yield from _sample(file, f"{shard}:{key}", list(members))


def _sample(file: BinaryIO, name: str, members: List[tarfile.TarInfo]) -> Iterator[Sample]:
    """The sample that these members are, if any of them is of one."""
    images = [member for member in members if is_image(os.path.basename(member.name))]
    classes = [member for member in members if member.name.endswith(".cls")]
    if not images and not classes:
        return
    if len(images) != 1 or len(classes) != 1:
        raise DataError(f"{name} has {len(images)} images and {len(classes)} .cls, not one of each; {_MEND}")
    file.seek(classes[0].offset_data)
    text = file.read(min(classes[0].size, _CLS_BYTES))
    number = decoded(text).strip()
    if classes[0].size > _CLS_BYTES or not re.match("[0-9]+\\Z", number) or int(number) >= MAX_CLASSES:
        raise DataError(f"{name}.cls is no class index ({text!r}); {_MEND}")
    yield Sample(images[0].name, images[0].offset_data, images[0].size, int(number))


def _members(file: BinaryIO, shard: str) -> Iterator[tarfile.TarInfo]:
    """The plain files of an archive. Raises DataError."""
    try:
        archive = tarfile.open(fileobj=file, mode="r:", encoding="utf-8")  # noqa: SIM115
        end = os.fstat(file.fileno()).st_size
        reached = -1
        for info in iter(archive.next, None):
            archive.members = []  # type: ignore[attr-defined]  # which would grow with every member
            name = info.name[:80]
            if info.offset <= reached or info.size < 0 or info.offset_data + info.size > end:
                raise DataError(f"{shard}: {name} reaches beyond the file, which is cut off or damaged; {_MEND}")
            reached = info.offset
            if info.isdir():
                continue
            if info.issparse() or not info.isreg():
                raise DataError(f"{shard}: {name} is a link or no plain file; {_MEND}")
            if len(info.name) > _NAME_CHARACTERS:
                raise DataError(f"{shard}: a name of {len(info.name):,} characters, {name}...; {_MEND}")
            if info.name.startswith("/") or ".." in info.name.split("/"):
                raise DataError(f"{shard}: {name} leads out of the folder; {_MEND}")
            if not is_hidden(os.path.basename(info.name)):
                yield info
        file.seek(archive.offset)
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # tarfile ends at a damaged header
            raise DataError(f"{shard} is cut off or damaged at byte {archive.offset:,}; {_MEND}")
    except (DataError, Stopped):
        raise
    except (OSError, EOFError) as error:
        raise DataError(f"cannot read {shard} ({getattr(error, 'strerror', None) or error}); check the disk") from error
    except Exception as error:  # tarfile raises what it likes at damaged headers
        raise DataError(f"{shard} is no plain tar archive, or a damaged one ({str(error)[:80]}); {_MEND}") from error


def scan_shards(paths: Sequence[str]) -> Table:
    """List the images of these shards by class, then by name. Raises DataError, one line."""
    found = [
        (sample.label, raw(sample.member), number, sample.start, sample.size)
        for number, path in enumerate(paths)
        for sample in samples(path, os.path.basename(path))
    ]
    if not found:
        raise DataError(f"{os.path.dirname(paths[0])} holds shards without an image; give others with --data-path")
    found.sort()
    labels, names, shard, starts, sizes = zip(*found)
    return Table(
        counts=np.bincount(labels).astype(np.int64),
        names=b"".join(names),
        lengths=np.array([len(name) for name in names], np.int64),
        shard=np.array(shard, np.int32),
        starts=np.array(starts, np.int64),
        sizes=np.array(sizes, np.int64),
    )


def listed_shards(paths: Sequence[str], cache_folder: Union[str, Path, None] = None) -> Table:
    """Return what `scan_shards` returns, from the cache (see `cache_dir.places`) while that is valid."""
    stamp, keep = cache_dir.stamp_of(paths)
    return cache_dir.cached(
        (_SUBFOLDER, stamp + ".npz", cache_folder),
        load=lambda content: unpack(content, [os.path.getsize(path) for path in paths]),
        make=lambda: scan_shards(paths),
        dump=pack,
        keep=keep,
    )
