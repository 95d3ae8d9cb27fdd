"""The list of what is in shards that have no index, kept from one start to the next.

A kept list holds as long as the shards have the names, sizes and times that they had when their headers were read.
Deleting the cache is always safe.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from pathlib import Path
from typing import Callable, Sequence, Union

import numpy as np

from shared import cache
from shared.errors import fault
from shared.files import write_atomic
from shared.imagenet_shard_index import Table, pack, unpack
from shared.imagenet_shard_scan import samples
from shared.text import raw

_SUBFOLDER = "imagenet-shards-v1"  # another number for another content
_TICK_NS = 2 * 10**9  # the coarsest clock of a file system in use, FAT's


def scan_shards(paths: Sequence[str], pause: Callable[[], None] = lambda: None) -> Table:
    """List the images of these shards by class, then by name. Raises DataError, one line."""
    found = [
        (sample.label, raw(sample.member), number, sample.start, sample.size)
        for number, path in enumerate(paths)
        for sample in samples(path, os.path.basename(path), pause)
    ]
    if not found:
        raise fault(f"{os.path.dirname(paths[0])} holds shards without an image; give others with --data-path")
    found.sort()
    labels, names, shard, starts, sizes = zip(*found)
    return Table(
        counts=np.bincount(labels).astype(np.int64), names=b"".join(names),
        lengths=np.array([len(name) for name in names], np.int64), shard=np.array(shard, np.int32),
        starts=np.array(starts, np.int64), sizes=np.array(sizes, np.int64),
    )  # fmt: skip


def listed_shards(
    paths: Sequence[str], cache_folder: Union[str, Path, None] = None, pause: Callable[[], None] = lambda: None
) -> Table:
    """Return what `scan_shards` returns, from the cache where shards of these names, sizes and times have been listed.

    `cache_folder` as in `cache.places`. A cache that is damaged, or can be neither read nor written, is as good as
    none.
    """
    digest_of, newest, sizes = hashlib.sha256(), 0, []
    for path in paths:
        try:
            status = os.stat(path)
        except OSError as error:
            raise fault(f"cannot read {path} ({error.strerror or error}); check the disk") from error
        sizes.append(status.st_size)
        newest = max(newest, status.st_mtime_ns, status.st_ctime_ns)
        digest_of.update(b"%b\0%d %d %d\n" % (
            os.fsencode(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns))  # fmt: skip
    name, now = digest_of.hexdigest() + ".npz", time.time_ns()
    places = list(cache.places(_SUBFOLDER, cache_folder))
    for place in places:
        with contextlib.suppress(OSError, ValueError):
            return unpack((place / name).read_bytes(), None, tuple(sizes))
    table = scan_shards(paths, pause)
    if now - newest > _TICK_NS:
        for place in places:
            with contextlib.suppress(OSError):
                place.mkdir(parents=True, exist_ok=True)
                write_atomic(place / name, pack(table))
                break
    return table
