"""Where the bytes of an image are, and how they are read: a file of its own, or a stretch of a tar shard."""

from __future__ import annotations

import contextlib
import io
import threading
from collections import OrderedDict
from typing import BinaryIO, List, NamedTuple, Optional, Sequence, Union

from shared.errors import DataError, UsageError
from shared.imagenet.download_cache import Remote, fetch, opened, shown

OPEN_SHARDS = 32  # that a process keeps open at most


class Extent(NamedTuple):
    """`size` bytes from `start` on of a local file, or of one that is fetched; a `size` of None means all of it."""

    file: Union[str, Remote]
    start: int = 0
    size: Optional[int] = None


class ExtentReader:
    """Reads extents; the `limit` files that were read from last stay open. For one thread of one process.

    `notes` gathers what is to be said of fetching; whoever reads it empties it.
    """

    def __init__(self, limit: int = OPEN_SHARDS) -> None:
        self.notes: List[str] = []
        self._limit = limit
        self._files: OrderedDict[Union[str, Remote], BinaryIO] = OrderedDict()
        self._ahead: Optional[_Ahead] = None

    def source(self, extent: Extent) -> Union[str, BinaryIO]:
        """What Pillow opens: the path where the file is the image, else its bytes as a file in memory.

        Raises DataError where a shard cannot be read.
        """
        if extent.size is None:
            assert isinstance(extent.file, str)
            return extent.file
        return io.BytesIO(self.read(extent))

    def read(self, extent: Extent) -> bytes:
        """The bytes. Raises DataError, one line, where they cannot be had."""
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
            with open(extent.file, "rb") as whole:
                return whole.read()
        file = self._opened(extent.file)
        file.seek(extent.start)
        content = file.read(extent.size)
        while 0 < len(content) < extent.size:  # a file without a buffer may give less than was asked for
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
        """Have a thread fetch these, in this order, in place of what it was to fetch before."""
        if files:
            self._ahead = self._ahead or _Ahead()
            self._ahead.expect(files)
            self.notes += self._ahead.told()

    def close(self) -> None:
        """Close all files; reading opens them again."""
        while self._files:
            self._files.popitem()[1].close()

    def __enter__(self) -> ExtentReader:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class _Ahead:
    """A thread that fetches what will be read soon; what fails there fails again, and aloud, when it is read."""

    def __init__(self) -> None:
        self._wanted: Sequence[Remote] = ()
        self._notes: List[str] = []
        self._changed = threading.Condition()
        threading.Thread(target=self._run, name="shards ahead", daemon=True).start()

    def expect(self, files: Sequence[Remote]) -> None:
        with self._changed:
            self._wanted = tuple(files)
            self._changed.notify()

    def told(self) -> List[str]:
        notes = self._notes[:]
        del self._notes[: len(notes)]
        return notes

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._wanted:
                    self._changed.wait()
                first, self._wanted = self._wanted[0], self._wanted[1:]
            with contextlib.suppress(UsageError):
                fetch(first, self._notes, wait=False)
