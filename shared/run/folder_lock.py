"""A lock on a run's folder: two runs in one would move each other's files while they are written.

It is released when its process ends for whatever reason.
"""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path
from typing import Iterator

from shared.errors import UsageError

_NAME = ".lock"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock inside. Raises UsageError if another process holds it.

    A POSIX lock is not kept by children, such as data workers. Where a file system has none, nothing is locked.
    """
    path, descriptor = folder / _NAME, -1
    while descriptor < 0:
        try:
            descriptor = os.open(str(path), os.O_RDWR | os.O_CREAT, 0o666)
        except OSError:  # the run's own files will report it
            yield
            return
        _lock(descriptor, folder)
        if not _is_at(descriptor, path):  # its holder removed it after it was opened
            os.close(descriptor)
            descriptor = -1
    try:
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield
    finally:
        with contextlib.suppress(OSError):
            os.remove(str(path))
        os.close(descriptor)


def refuse_taken(folder: Path) -> None:
    """Raise UsageError if another process is writing a run into this folder. Changes nothing."""
    with contextlib.suppress(OSError):
        descriptor = os.open(str(folder / _NAME), os.O_RDWR)
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
    with contextlib.suppress(OSError):
        return os.path.samestat(os.fstat(descriptor), os.stat(str(path)))
    return False
