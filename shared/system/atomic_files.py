"""Files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from pathlib import Path
from typing import Union

from shared.errors import UsageError
from shared.text import encoded

# What file systems say that sync no folders, or nothing at all (exFAT, FUSE, network mounts); no disk fails so.
_NOT_HERE = (
    errno.EINVAL,
    errno.ENOSYS,
    errno.EOPNOTSUPP,
    errno.ENOTSUP,
    errno.EBADF,
    errno.EISDIR,
    errno.EPERM,
    errno.EACCES,
)


def write_atomic(path: Union[str, Path], content: Union[str, bytes]) -> None:
    """Replace the file at `path` by `content` in one step: a reader, or a power cut, sees the old file or the new one.

    Text is UTF-8; a byte of a name that is none stands there as an escape, in JSON too the right one (`\\udce9`).
    When this returns a power cut leaves the new one. Raises OSError when the folder cannot be written; nothing
    half-written stays behind.
    """
    path = Path(path)
    data = encoded(content) if isinstance(content, str) else content
    handle, temporary = tempfile.mkstemp(prefix="." + path.name + ".", dir=str(path.parent))
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            sync(file.fileno())
        open_to_others(temporary, 0o666 & ~_umask())  # mkstemp makes it private; a log belongs to who shares the folder
        os.replace(temporary, str(path))
    except BaseException:
        os.unlink(temporary)
        raise
    sync_folder(path.parent)


def open_to_others(path: Union[str, Path], mode: int) -> None:
    """Give a file or folder its permissions, where the file system has any: exFAT and the like refuse."""
    with contextlib.suppress(OSError):
        os.chmod(str(path), mode)


def make_folder(path: Union[str, Path]) -> Path:
    """Make the folder, its parents too, and prove that it can be written. Raises UsageError otherwise."""
    path = Path(path)
    try:
        made = [folder for folder in (path, *path.parents) if not folder.exists()]
        path.mkdir(parents=True, exist_ok=True)
        for folder in made:  # what is synced in a folder is lost with its name
            sync_folder(folder.parent)
        with tempfile.TemporaryFile(dir=str(path)):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(f"cannot write to {path} ({reason}); choose another folder with --output-dir") from error
    return path


def sync_files(folder: Union[str, Path]) -> None:
    """Make the files in the folder survive a power cut, so that a rename that follows cannot outlive what it names."""
    for path in Path(folder).iterdir():
        with path.open("rb") as file:
            sync(file.fileno())
    sync_folder(folder)


def sync_folder(path: Union[str, Path]) -> None:
    """Make the names in the folder survive a power cut (the files' own bytes are synced by whoever writes them)."""
    try:
        descriptor = os.open(str(path), os.O_RDONLY)
    except OSError as error:
        if error.errno not in _NOT_HERE:  # it may be written, not read
            raise
        return
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


def sync(descriptor: int) -> None:
    """Make what has been written survive a power cut, where the file system can."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NOT_HERE:
            raise


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
