"""Atomic writes and syncs: a file is complete or absent, also after a power cut."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from pathlib import Path
from typing import Union

from shared.errors import UsageError
from shared.text import encoded

# Errors of file systems that cannot sync folders, or anything (exFAT, FUSE, network mounts); disk failures are others.
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
    """Replace the file at `path` by `content` atomically; when this returns, it survives a power cut.

    Text is encoded in UTF-8, lone surrogates as escapes that are also valid in JSON (`\\udce9`). Raises OSError if the
    folder cannot be written, and leaves nothing behind.
    """
    path = Path(path)
    data = encoded(content) if isinstance(content, str) else content
    handle, temporary = tempfile.mkstemp(prefix="." + path.name + ".", dir=str(path.parent))
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            sync(file.fileno())
        open_to_others(temporary, 0o666 & ~_umask())  # mkstemp makes it private
        os.replace(temporary, str(path))
    except BaseException:
        os.unlink(temporary)
        raise
    sync_folder(path.parent)


def open_to_others(path: Union[str, Path], mode: int) -> None:
    """Set the permissions of a file or folder, on file systems that have any."""
    with contextlib.suppress(OSError):
        os.chmod(str(path), mode)


def make_folder(path: Union[str, Path]) -> Path:
    """Make the folder and its parents, and test that it can be written. Raises UsageError if not."""
    path = Path(path)
    try:
        made = [folder for folder in (path, *path.parents) if not folder.exists()]
        path.mkdir(parents=True, exist_ok=True)
        for folder in made:  # or a power cut may take the folder with its synced files
            sync_folder(folder.parent)
        with tempfile.TemporaryFile(dir=str(path)):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(f"cannot write to {path} ({reason}); choose another folder with --output-dir") from error
    return path


def sync_files(folder: Union[str, Path]) -> None:
    """Make the files in the folder survive a power cut, before the folder is renamed."""
    for path in Path(folder).iterdir():
        with path.open("rb") as file:
            sync(file.fileno())
    sync_folder(folder)


def sync_folder(path: Union[str, Path]) -> None:
    """Make the names in the folder survive a power cut; the files' content is synced where it is written."""
    try:
        descriptor = os.open(str(path), os.O_RDONLY)
    except OSError as error:
        if error.errno not in _NOT_HERE:  # writable, but not readable
            raise
        return
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


def sync(descriptor: int) -> None:
    """Make written data survive a power cut, if the file system supports it."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NOT_HERE:
            raise


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
