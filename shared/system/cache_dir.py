"""The cache: folders for files that can be made again, such as the embedded sample or the index of a large data set."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
import time
from pathlib import Path
from typing import Callable, Iterable, Iterator, Optional, Tuple, TypeVar, Union

from shared.errors import UsageError
from shared.system.atomic_files import write_atomic
from shared.system.paths import expanded, reading

# How far two changes of a file can be apart and leave the same time: FAT's clock is the coarsest in use.
TICK_NS = 2 * 10**9

_NAME = "se-pnas-kit"

T = TypeVar("T")


def places(subfolder: str, cache: Union[str, Path, None] = None) -> Iterator[Path]:
    """Yield the folders in which `subfolder` of the cache may be, the preferred one first. Creates nothing.

    The first is in `cache`, else KIT_CACHE, else XDG_CACHE_HOME, else ~/.cache; the second in the system's temporary
    folder, unless another user made it. Raises UsageError for a KIT_CACHE that is empty or in an unknown home.
    """
    base = _base(os.environ.get("KIT_CACHE") if cache is None else str(cache))
    if base is not None:
        yield Path(os.path.abspath(base)) / _NAME / subfolder
    user = str(os.getuid()) if hasattr(os, "getuid") else "user"  # one folder per user: the temporary folder is shared
    with contextlib.suppress(OSError):  # there may be no temporary folder either
        own = Path(tempfile.gettempdir()) / f"{_NAME}-{user}"
        if _is_own_or_absent(own):
            yield own / _NAME / subfolder


def cached(
    file: Tuple[str, str, Union[str, Path, None]],
    load: Callable[[bytes], T],
    make: Callable[[], T],
    dump: Callable[[T], bytes],
    keep: bool,
) -> T:
    """Return `load(content)` of a file in the cache, or, if there is none or `load` raises, the result of `make`.

    `file` is (subfolder, name, cache), as in `places`. A new result is written with `dump` if `keep`, which must be
    false where the source may change once more within `TICK_NS` and look the same. A cache that cannot be used is
    ignored.
    """
    subfolder, name, cache = file
    folders = list(places(subfolder, cache))
    for folder in folders:
        with contextlib.suppress(Exception):  # OSError, and whatever a damaged file provokes
            return load((folder / name).read_bytes())
    result = make()
    for folder in folders if keep else ():
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            write_atomic(folder / name, dump(result))
            break
    return result


def stamp_of(paths: Iterable[str]) -> Tuple[str, bool]:
    """A digest of names, sizes and times of files or folders, and whether they have not changed just now.

    ctime counts too, because mtime can be set back, as rsync does. Raises DataError if one is not there.
    """
    digest, newest, now = hashlib.sha256(), 0, time.time_ns()
    for path in paths:
        with reading(path, "check the disk"):
            status = os.stat(path)
        times = status.st_mtime_ns, status.st_ctime_ns
        digest.update(b"%b\0%d %d %d\n" % (os.fsencode(path), status.st_size, *times))
        newest = max(newest, *times)
    return digest.hexdigest(), now - newest > TICK_NS


def _base(named: Optional[str]) -> Optional[str]:
    """The preferred folder of all caches; None where none is named and there is no home."""
    if named is not None:
        if not named.strip():
            raise UsageError("KIT_CACHE is empty; name a folder for what is kept between runs, or unset it")
        return expanded(named)
    base = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(base):  # the XDG Base Directory Specification says to ignore relative paths
        return base
    with contextlib.suppress(UsageError):  # as in a container whose user has no home
        return expanded("~/.cache")
    return None


def _is_own_or_absent(folder: Path) -> bool:
    """Whether no other user can change what is created in the folder."""
    if not os.path.lexists(str(folder)):
        return True
    found = os.lstat(str(folder))
    return stat.S_ISDIR(found.st_mode) and (not hasattr(os, "getuid") or found.st_uid == os.getuid())
