"""A file that grows by whole records: a log that a full disk interrupts, and that is complete again once there is room.

A run does not end because a log cannot be written. What the disk does not take is cut off again, kept in memory (a log
is small beside a network) and tried again with every record that follows and at the end, so that neither half a record
nor a gap is left where the disk has recovered by then. Where it has not, one line says how much is missing.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import List, Optional


class AppendedFile:
    """Open for appending. Raises OSError where it cannot be opened; what happens later is in `notes`, never raised."""

    def __init__(self, path: Path, notes: List[str]) -> None:
        self._path, self._notes = path, notes
        self._file = path.open("ab", buffering=0)
        self._kept: List[bytes] = []  # records that the disk has not taken yet
        self._failing = False

    def write(self, record: bytes) -> None:
        """One more record, in the file when this returns, or kept."""
        self._kept.append(record)
        self._write_kept()

    def _write_kept(self) -> Optional[str]:
        """Write what has been kept; why that was not possible."""
        reason = None
        try:
            while self._kept:
                self._append(self._kept[0])
                del self._kept[0]
        except OSError as error:
            reason = error.strerror or str(error)
            if not self._failing:
                self._notes.append(
                    f"note: {self._path} cannot be written ({reason}); the run goes on, and adds what is missing there"
                    " as soon as it can"
                )
        else:
            if self._failing:
                self._notes.append(f"note: {self._path} can be written again; nothing is missing in it")
        self._failing = reason is not None
        return reason

    def _append(self, record: bytes) -> None:
        """The whole record; raises OSError where that fails, with nothing of it left in the file."""
        written = 0
        try:
            while written < len(record):  # a disk that is nearly full takes a part
                written += self._file.write(record[written:]) or 0
        except OSError:
            if written:
                with contextlib.suppress(OSError):  # it may be a pipe
                    os.ftruncate(self._file.fileno(), os.fstat(self._file.fileno()).st_size - written)
            raise

    def sync(self) -> None:
        """Make what has been written survive a power cut."""
        with contextlib.suppress(OSError):  # a pipe; and what a disk has not taken is tried again or told of elsewhere
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Try a last time to write everything."""
        reason = self._write_kept()
        if reason is not None:
            self._notes.append(f"note: {self._path} lacks its last {len(self._kept)} entries ({reason})")
        with contextlib.suppress(OSError):
            self._file.close()
