"""Where things are kept that can be made again: the embedded sample, the index of a large data set."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path
from typing import Iterator, Optional, Union

from shared.errors import UsageError
from shared.system.paths import expanded

_NAME = "se-pnas-kit"


def places(subfolder: str, cache: Union[str, Path, None] = None) -> Iterator[Path]:
    """Where `subfolder` of the cache may be, the preferred place first. Nothing is made here.

    `cache` takes the place of KIT_CACHE in the environment, that of XDG_CACHE_HOME, and that of ~/.cache, if there is a
    home. The second place is below the system's temporary folder, unless somebody else has made a folder, or a link, of
    that name there. Raises UsageError for a KIT_CACHE that is empty or begins with a home that nobody knows.
    """
    base = _base(os.environ.get("KIT_CACHE") if cache is None else str(cache))
    if base is not None:
        yield Path(os.path.abspath(base)) / _NAME / subfolder
    user = str(os.getuid()) if hasattr(os, "getuid") else "user"  # users must not stand in each other's way
    with contextlib.suppress(OSError):  # there may be no temporary folder either
        own = Path(tempfile.gettempdir()) / f"{_NAME}-{user}"
        if _is_ours_or_absent(own):
            yield own / _NAME / subfolder


def _base(named: Optional[str]) -> Optional[str]:
    """The preferred folder of all caches; None where nobody has named one and there is no home."""
    if named is not None:
        if not named.strip():
            raise UsageError("KIT_CACHE is empty; name a folder for what is kept between runs, or unset it")
        return expanded(named)
    base = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(base):  # the XDG rules say to ignore others
        return base
    with contextlib.suppress(UsageError):  # as in a container whose user has no home
        return expanded("~/.cache")
    return None


def _is_ours_or_absent(folder: Path) -> bool:
    """Whether what is made in the folder stays out of others' reach."""
    try:
        found = os.lstat(str(folder))
    except FileNotFoundError:
        return True
    return stat.S_ISDIR(found.st_mode) and (not hasattr(os, "getuid") or found.st_uid == os.getuid())
