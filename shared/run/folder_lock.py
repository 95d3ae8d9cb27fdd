"""One run in a folder at a time: who writes there holds a lock, which ends with its process, whatever ends that.

Two runs in one folder would move each other's files away while they are written, and leave one's record beside the
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
    """Held from here to `release`. Raises UsageError where another process holds it.

    The lock is POSIX's, of a process: its children, such as data workers, do not keep it when it is gone. Where the
    file system has no locks, or takes no file, nothing is held.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / _NAME
        self._descriptor: Optional[int] = None
        for _ in range(10):
            try:
                descriptor = os.open(str(self._path), os.O_RDWR | os.O_CREAT, 0o666)
            except OSError:
                return  # what cannot be written there says so itself
            _lock(descriptor, folder)
            if _is_at(descriptor, self._path):
                self._descriptor = descriptor
                break
            os.close(descriptor)  # its holder has removed it since it was opened
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, 0)
                os.write(self._descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())

    def release(self) -> None:
        """Let go of it, once or more often."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.remove(str(self._path))
            os.close(self._descriptor)
            self._descriptor = None


def refuse_taken(folder: Path) -> None:
    """Raise UsageError where another process writes a run into this folder now; nothing is changed."""
    try:
        descriptor = os.open(str(folder / _NAME), os.O_RDWR)
    except OSError:
        return
    _lock(descriptor, folder)
    os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    """Lock the file. Raises UsageError, with the descriptor closed, where another process has."""
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
        pass  # there are no locks here


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(str(path)))
    except OSError:
        return False
