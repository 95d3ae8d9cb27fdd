"""Atomic writes and syncs: a file is complete or absent, also after a power cut."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from pathlib import Path
from typing import Iterator, Union

from shared.errors import UsageError, reason
from shared.text import encoded

# Errors of file systems that cannot sync folders, or anything (exFAT, FUSE, network mounts); disk failures are others.
_NOT_HERE = [getattr(errno, name) for name in "EINVAL ENOSYS EOPNOTSUPP ENOTSUP EBADF EISDIR EPERM EACCES".split()]


def write_atomic(path: Union[str, Path], content: Union[str, bytes]) -> None:
    """Replace the file at `path` by `content` atomically; when this returns, it survives a power cut.

    Text is UTF-8 with lone surrogates as escapes, as in JSON (`\\udce9`). Raises OSError, and leaves nothing behind.
    """
    path = Path(path)
    data = encoded(content) if isinstance(content, str) else content
    handle, temporary = tempfile.mkstemp(prefix="." + path.name + ".", dir=str(path.parent))
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            sync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        open_to_others(temporary, 0o666 & ~umask)  # mkstemp makes it private
        os.replace(temporary, str(path))
    except BaseException:
        os.unlink(temporary)
        raise
    sync_folder(path.parent)


@contextlib.contextmanager
def complete(target: Union[str, Path], replaces_folder: bool = False) -> Iterator[Path]:
    """A path for the block to write a file or a folder to, which becomes `target` where the block ends without error.

    Parents of `target` are made. A file replaces an earlier one, a folder at most an empty one, or any with
    `replaces_folder`. After an error nothing is left but the parents and what was there; a killed process leaves a
    folder `.incomplete-...`. Raises OSError.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".incomplete-", dir=str(target.parent)) as scratch:
        fresh = Path(scratch) / target.name  # not the private folder itself: this one has the rights of the umask
        yield fresh
        sync_files(scratch)
        if replaces_folder and target.is_dir():
            _exchange(fresh, target, Path(scratch) / f"{target.name}.earlier")
        else:
            os.replace(str(fresh), str(target))
    sync_folder(target.parent)


def _exchange(fresh: Path, target: Path, aside: Path) -> None:
    """Rename `fresh` to `target`, a folder that goes `aside` for it: no system replaces one that is not empty."""
    os.replace(str(target), str(aside))
    try:
        os.replace(str(fresh), str(target))
    except OSError:
        os.replace(str(aside), str(target))
        raise


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
        what = f"cannot write to {path} ({reason(error)})"
        raise UsageError(f"{what}; choose another folder with --output-dir") from error
    return path


def sync_files(folder: Union[str, Path]) -> None:
    """Make the files in the folder and its folders survive a power cut, before the folder is renamed."""
    for path in Path(folder).iterdir():
        if path.is_dir():
            sync_files(path)
            continue
        with path.open("rb") as file:
            sync(file.fileno())
    sync_folder(folder)


def sync_folder(path: Union[str, Path]) -> None:
    """Make the names in the folder survive a power cut; the files' content is synced where it is written."""
    with _where_supported():  # it may be writable, but not readable
        descriptor = os.open(str(path), os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sync(descriptor: int) -> None:
    """Make written data survive a power cut, if the file system supports it."""
    with _where_supported():
        os.fsync(descriptor)


@contextlib.contextmanager
def _where_supported() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _NOT_HERE:
            raise
