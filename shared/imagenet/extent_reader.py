"""Read the bytes of images: whole files, or extents of tar shards."""

from __future__ import annotations

import contextlib
import io
import threading
from collections import OrderedDict
from typing import BinaryIO, List, NamedTuple, Optional, Sequence, Union

from shared.errors import DataError, UsageError
from shared.imagenet.download_cache import Remote, fetch, opened, shown

OPEN_SHARDS = 32  # the most that a process keeps open


class Extent(NamedTuple):
    """`size` bytes from `start` on of a local or remote file; `size` None means the whole file."""

    file: Union[str, Remote]
    start: int = 0
    size: Optional[int] = None


class ExtentReader:
    """Reads extents and keeps the `limit` most recently used files open. For one thread of one process.

    `notes` collects lines for the user about fetching; the caller empties it.
    """

    def __init__(self, limit: int = OPEN_SHARDS) -> None:
        self.notes: List[str] = []
        self._limit = limit
        self._files: OrderedDict[Union[str, Remote], BinaryIO] = OrderedDict()
        self._prefetcher: Optional[_Prefetcher] = None

    def source(self, extent: Extent) -> Union[str, BinaryIO]:
        """The path of an image that is a file, else a file in memory with its bytes. Pillow opens both.

        Raises DataError if a shard cannot be read.
        """
        if extent.size is None:
            assert isinstance(extent.file, str)
            return extent.file
        return io.BytesIO(self.read(extent))

    def read(self, extent: Extent) -> bytes:
        """The bytes of an extent. Raises DataError, one line, if they cannot be read."""
        name = extent.file if isinstance(extent.file, str) else shown(extent.file.url)
        try:
            content = self._read(extent)
        except OSError as error:
            raise DataError(
                f"cannot read {name} ({error.strerror or error}); check the disk, run check-data"
            ) from error
        if extent.size is not None and len(content) != extent.size:
            raise DataError(f"{name} is shorter than it was; run check-data on it")
        return content

    def _read(self, extent: Extent) -> bytes:
        if extent.size is None:
            assert isinstance(extent.file, str)
            with open(extent.file, "rb") as image:
                return image.read()
        file = self._opened(extent.file)
        file.seek(extent.start)
        content = file.read(extent.size)
        while 0 < len(content) < extent.size:  # an unbuffered read may return less than requested
            more = file.read(extent.size - len(content))
            if not more:
                break
            content += more
        return content

    def _opened(self, key: Union[str, Remote]) -> BinaryIO:
        if key in self._files:
            self._files.move_to_end(key)
            return self._files[key]
        while len(self._files) >= self._limit:
            self._files.popitem(last=False)[1].close()
        file = opened(key, self.notes) if isinstance(key, Remote) else open(key, "rb", buffering=0)  # noqa: SIM115
        self._files[key] = file
        return self._files[key]

    def expect(self, files: Sequence[Remote]) -> None:
        """Fetch these files in a thread, in this order; they replace those that were still to be fetched."""
        if files:
            self._prefetcher = self._prefetcher or _Prefetcher()
            self._prefetcher.expect(files)
            self.notes += self._prefetcher.take_notes()

    def close(self) -> None:
        """Close all files. Reading opens them again."""
        while self._files:
            self._files.popitem()[1].close()

    def __enter__(self) -> ExtentReader:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class _Prefetcher:
    """A thread that fetches files before they are read. Its errors are ignored: reading raises them again."""

    def __init__(self) -> None:
        self._queue: Sequence[Remote] = ()
        self._notes: List[str] = []
        self._changed = threading.Condition()
        threading.Thread(target=self._run, name="shards ahead", daemon=True).start()

    def expect(self, files: Sequence[Remote]) -> None:
        with self._changed:
            self._queue = tuple(files)
            self._changed.notify()

    def take_notes(self) -> List[str]:
        notes = self._notes[:]
        del self._notes[: len(notes)]
        return notes

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._queue:
                    self._changed.wait()
                first, self._queue = self._queue[0], self._queue[1:]
            with contextlib.suppress(UsageError):
                fetch(first, self._notes, wait=False)
