"""Read the bytes of images: whole files, or extents of tar shards."""

from __future__ import annotations

import contextlib
import io
import threading
from collections import OrderedDict
from typing import BinaryIO, List, NamedTuple, Optional, Sequence, Tuple, Union

from shared.errors import UsageError
from shared.imagenet.download_cache import Remote, fetch, opened, shown
from shared.system.paths import reading

OPEN_SHARDS = 32  # the most that a process keeps open


class Extent(NamedTuple):
    """`size` bytes from `start` on of a local or remote file; `size` None means a whole local file."""

    file: Union[str, Remote]
    start: int = 0
    size: Optional[int] = None


class ExtentReader(contextlib.AbstractContextManager):
    """Reads extents and keeps the `limit` most recently used files open. For one thread of one process."""

    def __init__(self, limit: int = OPEN_SHARDS) -> None:
        self._limit = limit
        self._files: OrderedDict[Union[str, Remote], BinaryIO] = OrderedDict()
        self._notes: List[str] = []
        self._expected: List[Remote] = []
        self._prefetcher: Optional[threading.Thread] = None

    def source(self, extent: Extent) -> Union[str, BinaryIO]:
        """The path of an image that is a file, else its bytes as a file in memory. Raises DataError."""
        return str(extent.file) if extent.size is None else io.BytesIO(self.read(extent))

    def read(self, extent: Extent) -> bytes:
        """The bytes of an extent. Raises DataError, one line, if they cannot be read."""
        name = extent.file if isinstance(extent.file, str) else shown(extent.file.url)
        with reading(name, "check the disk, run check-data"):
            if extent.size is None:
                with open(str(extent.file), "rb") as image:
                    return image.read()
            file = self._opened(extent.file)
            file.seek(extent.start)
            content = file.read(extent.size)
            if len(content) != extent.size:
                raise OSError("it is shorter than it was")
            return content

    def _opened(self, key: Union[str, Remote]) -> BinaryIO:
        if key not in self._files:
            while len(self._files) >= self._limit:
                self._files.popitem(last=False)[1].close()
            self._files[key] = opened(key, self._notes) if isinstance(key, Remote) else open(key, "rb")  # noqa: SIM115
        self._files.move_to_end(key)
        return self._files[key]

    def expect(self, files: Sequence[Remote]) -> None:
        """Fetch these files in a thread, in this order; they replace those that were still to be fetched."""
        self._expected = list(files) or self._expected
        if self._expected and not (self._prefetcher and self._prefetcher.is_alive()):
            self._prefetcher = threading.Thread(target=self._prefetch, name="shards ahead", daemon=True)
            self._prefetcher.start()

    def _prefetch(self) -> None:
        """Errors are ignored: reading raises them again."""
        while self._expected:
            with contextlib.suppress(UsageError, IndexError):  # another list, which may be empty, can come any time
                fetch(self._expected.pop(0), self._notes, wait=False)

    def take_notes(self) -> Tuple[str, ...]:
        """The lines for the user about fetching that have come since the last call."""
        notes = tuple(self._notes)
        del self._notes[: len(notes)]
        return notes

    def close(self) -> None:
        """Close all files. Reading opens them again."""
        while self._files:
            self._files.popitem()[1].close()

    def __exit__(self, *error: object) -> None:
        self.close()
