"""A lock on a run's folder, which is released when its process ends for whatever reason.

Two runs in one folder would move each other's files while they are written, and leave one run's record beside the
other's configuration.
"""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path
from typing import Optional

from shared.errors import UsageError

_NAME = ".lock"


class FolderLock:
    """A lock held until `release`. Raises UsageError if another process holds it.

    A POSIX lock belongs to a process, so that its children, such as data workers, do not keep it. Where the file system
    has no locks or cannot be written, nothing is locked.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / _NAME
        self._descriptor: Optional[int] = None
        for _ in range(10):
            try:
                descriptor = os.open(str(self._path), os.O_RDWR | os.O_CREAT, 0o666)
            except OSError:
                return  # the run's own files will report it
            _lock(descriptor, folder)
            if _is_at(descriptor, self._path):
                self._descriptor = descriptor
                break
            os.close(descriptor)  # its holder removed it after it was opened
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, 0)
                os.write(self._descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())

    def release(self) -> None:
        """Release the lock. Safe to call twice."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.remove(str(self._path))
            os.close(self._descriptor)
            self._descriptor = None


def refuse_taken(folder: Path) -> None:
    """Raise UsageError if another process is writing a run into this folder. Changes nothing."""
    try:
        descriptor = os.open(str(folder / _NAME), os.O_RDWR)
    except OSError:
        return
    _lock(descriptor, folder)
    os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    """Lock the file. Closes the descriptor and raises UsageError if another process holds the lock."""
    try:
        import fcntl

        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        holder = os.read(descriptor, 200).decode("utf-8", "replace") or "another process"
        os.close(descriptor)
        raise UsageError(
            f"{holder} is writing a run into {folder}; wait for its end, stop it, or choose another --output-dir"
        ) from None
    except (ImportError, OSError):
        pass  # no locks on this system


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(str(path)))
    except OSError:
        return False
