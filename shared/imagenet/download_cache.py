"""A local cache of remote files: each is fetched once, verified, and kept until the least recently used make room.

A file is named after its SHA-256, independently of its URL. A reader holds a shared lock on it, and locked files are
not removed. A process that fetches a file holds its lock file, so that other processes of the machine wait instead of
fetching it too. The locks are the kernel's (flock) and end with their process.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import time
from pathlib import Path
from typing import Any, BinaryIO, Callable, Iterator, List, NamedTuple, Optional, Tuple, TypeVar, Union

from shared.errors import DataError, UsageError, one_line
from shared.system import cache_dir
from shared.system.paths import expanded
from shared.system.signals import Stopped

DEFAULT_GIB = 32.0  # the default of --shard-cache-size

_PAUSES = (1.0, 4.0)  # seconds before the second and the third attempt
_TRANSIENT = (408, 425, 429)  # of the answers of HTTP that say the client is at fault
_FULL = (errno.ENOSPC, errno.EDQUOT)
_KEPT = re.compile(r"[0-9a-f]{64}(?:\.(\d+)\.part)?\Z")  # the name of a file, and of one that is being fetched
_BLOCK = 2**20

T = TypeVar("T")


class ShardCache(NamedTuple):
    """A folder, and the number of bytes that may be kept in it."""

    folder: str
    limit: int


class Remote(NamedTuple):
    """A file at a URL, with its size in bytes and its SHA-256 from the set's index."""

    url: str
    size: int
    sha256: str
    cache: ShardCache

    @property
    def path(self) -> str:
        """The path of the local copy."""
        return os.path.join(self.cache.folder, self.sha256)


def is_url(path: Union[str, Path]) -> bool:
    """Whether this is a URL, as in https://host/folder or s3://bucket/folder."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", str(path)) is not None


def shown(url: str) -> str:
    """The URL without user name, password and query, which may hold another, fit for a log. A path stays."""
    return _without_query(one_line(url)) if is_url(url) else one_line(url)


def _without_query(text: str) -> str:
    """The text without the user names, passwords and queries of URLs in it."""
    return re.sub(r"\?[^\s'\")]*", "?...", re.sub(r"//[^/@\s]*@", "//", text))


def make_cache(folder: Optional[str] = None, gib: Optional[float] = None) -> ShardCache:
    """The cache in `folder`, else in the default of `cache_dir.places`. Raises UsageError if it cannot be created."""
    try:
        import fcntl  # noqa: F401
    except ImportError as error:
        raise UsageError("this system has no flock, which a cache of shards needs; give a local folder") from error
    places = [Path(os.path.abspath(expanded(folder)))] if folder is not None else list(cache_dir.places("shards"))
    failures = []
    for place in places:
        try:
            place.mkdir(parents=True, exist_ok=True)
            with locked(str(place / "room.lock")):
                return ShardCache(str(place), int((DEFAULT_GIB if gib is None else gib) * 2**30))
        except OSError as error:
            failures.append(f"{place} ({error.strerror or error})")
    where = " or ".join(failures) or "the user's home (there is none)"
    raise UsageError(f"cannot keep shards in {where}; name another folder with --shard-cache")


def opened(remote: Remote, notes: List[str]) -> BinaryIO:
    """Open the local copy, fetched if there is none; it stays until the file is closed. Raises DataError."""
    while True:
        with contextlib.suppress(FileNotFoundError):
            file = open(remote.path, "rb")  # noqa: SIM115
            _lock(file.fileno(), shared=True)
            with contextlib.suppress(PermissionError):  # the file belongs to another user
                os.utime(remote.path)  # the most recently used is the last to be removed
            return file
        fetch(remote, notes)


def fetch(remote: Remote, notes: List[str], wait: bool = True, anew: bool = False) -> bool:
    """Fetch the file into the cache unless it is there, and return whether it is there.

    If another process is fetching it, wait for that, or with `wait=False` return at once. `anew` ignores a copy in the
    cache. Raises DataError, which names the URL, if the file cannot be fetched.
    """
    if os.path.exists(remote.path) and not anew:
        return True
    part = f"{remote.path}.{remote.size}.part"
    try:
        with locked(remote.path + ".lock", wait) as held:
            if held and (anew or not os.path.exists(remote.path)):
                try:
                    _make_room(remote.cache, remote.size, part)
                    retried(remote.url, lambda: _download(remote, part), notes)
                    os.replace(part, remote.path)
                finally:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(part)
            return held
    except OSError as error:
        raise DataError(
            f"cannot keep {shown(remote.url)} in {remote.cache.folder} ({error.strerror or error}); lower"
            " --shard-cache-size, or name another folder with --shard-cache"
        ) from error


def read_small(url: str, limit: int, notes: List[str]) -> bytes:
    """The content of a file at a URL. Raises DataError if it is larger than `limit` bytes or cannot be fetched."""

    def read() -> bytes:
        files, path = filesystem(url)
        with files.open(path, "rb") as file:
            return bytes(file.read(limit + 1))

    content = retried(url, read, notes)
    if len(content) > limit:
        raise DataError(f"{shown(url)} is larger than {limit:,} bytes; that is no index of shards")
    return content


def digest(path: str) -> Tuple[int, str]:
    """Size in bytes and SHA-256 of a file."""
    sha = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(_BLOCK), b""):
            sha.update(block)
        return file.tell(), sha.hexdigest()


def _download(remote: Remote, part: str) -> None:
    import fsspec

    class Limit(fsspec.callbacks.Callback):
        """Stops a download of more bytes than expected, which could fill the disk."""

        def call(self, *arguments: Any, **named: Any) -> None:
            if self.value > remote.size:
                raise ValueError(f"more than {remote.size:,} bytes")

    files, path = filesystem(remote.url)
    files.get_file(path, part, callback=Limit())
    size, sha256 = digest(part)
    if size != remote.size:
        raise ValueError(f"{size:,} bytes in place of {remote.size:,}")
    if sha256 != remote.sha256:
        raise ValueError("its SHA-256 is not the index's")


def retried(url: str, work: Callable[[], T], notes: List[str], advice: str = "check the URL and the network") -> T:
    """The result of `work`, which is tried three times, or once where the server refuses it.

    Raises DataError with the `advice`; the OSError of a full disk passes.
    """
    for seconds in (*_PAUSES, None):
        try:
            return work()
        except (UsageError, Stopped):
            raise
        except Exception as error:  # the package of each protocol raises its own kinds
            if isinstance(error, OSError) and error.errno in _FULL:
                raise
            text = one_line(f"{type(error).__name__}: {error}".replace(url, "it"))
            reason, status = _without_query(text)[:160].rstrip(": "), getattr(error, "status", None)
            refused = isinstance(status, int) and 400 <= status < 500 and status not in _TRANSIENT
            if seconds is None or refused or isinstance(error, (FileNotFoundError, PermissionError)):
                what = "is not there" if isinstance(error, FileNotFoundError) else f"cannot be fetched ({reason})"
                raise DataError(f"{shown(url)} {what}; {advice}") from error
            notes.append(f"note: {shown(url)} could not be fetched ({reason}), tried again after {seconds:g} s")
            time.sleep(seconds)
    raise AssertionError("the last attempt returns or raises")


def filesystem(url: str) -> Tuple[Any, str]:
    """The fsspec file system of the URL, and the path in it. Raises UsageError if a package is missing."""
    try:
        import fsspec

        return fsspec.core.url_to_fs(url)
    except ImportError as error:
        advice = "install it, or pip install fsspec aiohttp"
        raise UsageError(f"reading {shown(url)} needs another package ({one_line(str(error))}); {advice}") from error
    except ValueError as error:
        raise UsageError(f"{shown(url)} is of no known protocol ({one_line(str(error))}); check the URL") from error


def _make_room(where: ShardCache, size: int, part: str) -> None:
    """Create the file `part`, whose name holds its final size, and remove the files beyond the limit."""
    with locked(os.path.join(where.folder, "room.lock")):
        kept = []  # of each file the time of its last use, its present or final size in bytes, and its path
        for entry in os.scandir(where.folder):
            name = _KEPT.match(entry.name)
            with contextlib.suppress(FileNotFoundError):
                if name:
                    kept.append((entry.stat().st_mtime, int(name.group(1) or entry.stat().st_size), entry.path))
        excess = sum(kept_size for _, kept_size, _ in kept) + size - where.limit
        for _, kept_size, path in sorted(kept):
            if excess > 0 and _removed(path):
                excess -= kept_size
        Path(part).touch()


def _removed(path: str) -> bool:
    """Remove a file unless a process reads it, or a part unless a process fetches it; return whether it is gone."""
    lock = re.sub(r"\.\d+\.part\Z", ".lock", path)
    with contextlib.suppress(OSError), locked(lock, wait=False, create=0) as held:
        if held:
            os.unlink(path)
            return True
    return False


@contextlib.contextmanager
def locked(path: str, wait: bool = True, create: int = os.O_CREAT) -> Iterator[bool]:
    """Hold the lock file; yields False if another process holds it and `wait` is false."""
    descriptor = os.open(path, os.O_RDWR | create, 0o666)
    try:
        yield _lock(descriptor, shared=False, wait=wait)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, shared: bool, wait: bool = True) -> bool:
    import fcntl

    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True
