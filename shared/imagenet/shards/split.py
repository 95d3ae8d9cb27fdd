"""A split of ImageNet in tar shards `train-000000.tar`, ... of the WebDataset format. A sample is two members:

    00000018-n01440764_18.jpg     the bytes of the image file
    00000018-n01440764_18.cls     the class index as text

The key of a sample is its name before the first dot (https://github.com/webdataset/webdataset).
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
import re
from dataclasses import dataclass, field
from typing import List, NamedTuple, Sequence, Set, Tuple, Union

import numpy as np

from shared.errors import DataError, UsageError
from shared.imagenet.download_cache import Remote
from shared.imagenet.extent_reader import OPEN_SHARDS, Extent
from shared.imagenet.split import WHOLE, Split
from shared.rng import grouped_order
from shared.system.paths import reading

_STEM = 64  # characters of a file name in a member's name, of which a tar header holds 100


class Shard(NamedTuple):
    """A tar file: its name in the set, its location, its size in bytes, and its SHA-256 if there is an index."""

    name: str
    file: Union[str, Remote]
    size: int
    sha256: str = ""


@dataclass(frozen=True, eq=False)
class ShardSplit(Split):
    """Images in tar shards: image i is the `sizes[i]` bytes from `starts[i]` on in `shards[shard[i]]`."""

    shards: Tuple[Shard, ...] = field(repr=False)
    shard: np.ndarray = field(repr=False)  # int32 [images]
    starts: np.ndarray = field(repr=False)  # int64 [images]
    sizes: np.ndarray = field(repr=False)  # int64 [images]
    numbered: bool  # members are named by `member_name`, else `names` are their names
    group: int  # the number of shards that are shuffled together

    @property
    def open_shards(self) -> int:
        return min(OPEN_SHARDS, self.group)

    def name(self, index: int) -> str:
        """Shard and member, as in 'train-000003.tar:00000018-n01440764_18.jpg'."""
        return f"{self.shards[self.shard[index]].name}:{self.member(index)}"

    def full_name(self, index: int) -> str:
        return self.name(index)

    def member(self, index: int) -> str:
        """The name of an image in its shard."""
        file = self.file_name(index)
        return member_name(range(len(self))[index], file) if self.numbered else file

    def extent(self, index: int) -> Extent:
        shard = self.shards[self.shard[index]]
        return Extent(shard.file, int(self.starts[index]), int(self.sizes[index]))

    @property
    def order(self) -> str:
        if self.group >= len(self.shards):
            return WHOLE
        shards = hashlib.sha256(self.shard.astype("<i4").tobytes()).hexdigest()
        return f"{self.group} shards of {shards[:16]}"

    def ordered(self, order: str) -> Split:
        group = re.match(r"\d+", order)
        found = dataclasses.replace(self, group=int(group.group()) if group else len(self.shards))
        if found.order != order:
            return super().ordered(order)
        found.check_room()
        return found

    def check_files(self) -> None:
        """Raise DataError if a local shard is missing or has another size than its index says."""
        for shard in self.shards:
            if isinstance(shard.file, str):
                with reading(shard.file, "bring it back"):
                    size = os.path.getsize(shard.file)
                if size != shard.size:
                    raise DataError(f"{shard.file} has {size:,} bytes in place of {shard.size:,}; copy it anew")

    def check_room(self) -> None:
        """Raise UsageError if the cache cannot hold two groups of remote shards: the current and the next one."""
        files = [shard.file for shard in self.shards if isinstance(shard.file, Remote)]
        needed = len(files[: 2 * self.group]) * max((file.size for file in files), default=0)
        if files and needed > files[0].cache.limit:
            gib = math.ceil(needed / 2**30 * 1000) / 1000
            advice = f"give --shard-cache-size at least {2 * gib:g} GiB, or a local copy of the shards"
            raise UsageError(f"{self.folder} needs {gib:g} GiB of cache for its shards; {advice}")

    def epoch_order(self, seed: int, epoch: int) -> np.ndarray:
        return grouped_order(seed, epoch, self.shard, self.group)

    def ahead(self, batches: Sequence[np.ndarray]) -> List[Tuple[Remote, ...]]:
        numbers = dict.fromkeys(number for batch in batches for number in self.shard[batch].tolist())
        files = [file for file in (self.shards[number].file for number in numbers) if isinstance(file, Remote)]
        used: Set[int] = set()
        found = []
        for batch in batches:
            found.append(tuple(files[len(used) :][: self.group]))
            used.update(self.shard[batch].tolist())
        return found


def member_name(index: int, file: str) -> str:
    """The name of an image's member: its index in the split, then its file name in characters that a key may have.

    The extension is in lower case, and .jpg for .JPEG, as WebDataset readers expect.
    """
    stem, extension = os.path.splitext(file)
    extension = {".jpeg": ".jpg"}.get(extension.lower(), extension.lower())
    return f"{index:08d}-{re.sub('[^A-Za-z0-9_-]', '_', stem)[:_STEM]}{extension}"


def key_of(member: str) -> str:
    """The key of a member's sample: its name up to the first dot of the last part."""
    folder, slash, file = member.rpartition("/")
    return folder + slash + file.split(".")[0]
