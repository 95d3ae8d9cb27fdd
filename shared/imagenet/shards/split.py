"""A split of ImageNet in tar shards, the WebDataset layout: `train-000000.tar`, ..., an image and its class a sample.

    00000018-n01440764_18.jpg     the file's own bytes
    00000018-n01440764_18.cls     the class index as text

A sample's name before its first dot is its key (https://github.com/webdataset/webdataset). Shards that this project
has written come with an index (`imagenet_shard_index`), others are listed once (`imagenet_shard_scan`).
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
import re
from dataclasses import dataclass, field
from typing import List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from shared.errors import UsageError
from shared.imagenet.download_cache import Remote
from shared.imagenet.reader import OPEN_SHARDS, Extent
from shared.imagenet.split import WHOLE, Split
from shared.rng import grouped_order

_STEM = 64  # characters of a file's own name in a member's: what a tar header holds is 100


class Shard(NamedTuple):
    """A tar file: where it is, its bytes, and its SHA-256 where an index says it."""

    name: str
    file: Union[str, Remote]
    size: int
    sha256: str = ""


@dataclass(frozen=True, eq=False)
class ShardSplit(Split):
    """The images of one split in shards; what `Split` says holds, its order and labels included.

    Image i is `sizes[i]` bytes from `starts[i]` on of `shards[shard[i]]`: arrays int64, int64 and int32 [images]. With
    `numbered` the members have the names that `member_name` gives them, else `names` are the members' own. `group` is
    how many shards are shuffled together, where not all are at hand; None shuffles all.
    """

    shards: Tuple[Shard, ...] = field(repr=False)
    shard: np.ndarray = field(repr=False)
    starts: np.ndarray = field(repr=False)
    sizes: np.ndarray = field(repr=False)
    numbered: bool
    group: Optional[int]

    @property
    def open_shards(self) -> int:
        return min(OPEN_SHARDS, self.group or OPEN_SHARDS)

    def name(self, index: int) -> str:
        """Return shard and member, as in 'train-000003.tar:00000018-n01440764_18.jpg'. Raises IndexError."""
        return f"{self.shards[self.shard[index]].name}:{self.member(index)}"

    def full_name(self, index: int) -> str:
        return self.name(index)

    def member(self, index: int) -> str:
        """Return the name that an image has in its shard."""
        index = range(len(self))[index]
        file = self.file_name(index)
        return member_name(index, file) if self.numbered else file

    def extent(self, index: int) -> Extent:
        shard = self.shards[self.shard[index]]
        return Extent(shard.file, int(self.starts[index]), int(self.sizes[index]))

    @property
    def order(self) -> str:
        if self.group is None or self.group >= len(self.shards):
            return WHOLE
        shards = hashlib.sha256(self.shard.astype("<i4").tobytes()).hexdigest()
        return f"{self.group} shards of {shards[:16]}"

    def ordered(self, order: str) -> Split:
        group = re.match(r"\d+", order)
        for other in (None, int(group.group()) if group else None):
            found = dataclasses.replace(self, group=other)
            if found.order == order:
                found.check_room()
                return found
        return super().ordered(order)

    def check_room(self) -> None:
        """Raise UsageError where the cache of a URL's shards cannot hold those that are shuffled together, and more."""
        files = [shard.file for shard in self.shards if isinstance(shard.file, Remote)]
        if not files:
            return
        group = len(files) if self.group is None else self.group
        needed = min(len(files), 2 * group) * max(file.size for file in files)
        if needed > files[0].cache.limit:
            raise UsageError(
                f"{self.folder} needs {counted_gib(needed)} of cache for its shards, which --shard-cache-size does not"
                f" give; give at least {counted_gib(2 * needed)}, or copy the shards and name their folder"
            )

    def epoch_order(self, seed: int, epoch: int) -> np.ndarray:
        if self.group is None:
            return super().epoch_order(seed, epoch)
        return grouped_order(seed, epoch, self.shard, self.group)

    def ahead(self, batches: Sequence[np.ndarray]) -> List[Tuple[Remote, ...]]:
        if not batches or not any(isinstance(shard.file, Remote) for shard in self.shards):
            return super().ahead(batches)
        sizes = [len(batch) for batch in batches]
        needed, places = np.unique(self.shard[np.concatenate(batches)], return_index=True)
        needed = needed[np.argsort(places)]  # in the order in which they are needed for the first time
        places = np.sort(places)
        begins = np.cumsum([0] + sizes[:-1])
        files = [file for file in (self.shards[number].file for number in needed) if isinstance(file, Remote)]
        most = self.group or len(files)
        return [tuple(files[first : first + most]) for first in np.searchsorted(places, begins).tolist()]


def counted_gib(size: int) -> str:
    """'1.5 GiB', rounded up."""
    return f"{math.ceil(size / 2**30 * 1000) / 1000:g} GiB"


def member_name(index: int, file: str) -> str:
    """The member of an image: its number in the split, and its file's own name without what a key may not hold.

    The extension is in small letters and .jpg for .JPEG, as readers of such shards look for it.
    """
    stem, extension = os.path.splitext(file)
    extension = {".jpeg": ".jpg"}.get(extension.lower(), extension.lower())
    return f"{index:08d}-{re.sub('[^A-Za-z0-9_-]', '_', stem)[:_STEM]}{extension}"


def key_of(member: str) -> str:
    """The part of a member's name by which a sample's members belong together: up to the first dot of its last part."""
    folder, slash, file = member.rpartition("/")
    return folder + slash + file.split(".")[0]
