"""A log file that survives a full disk: appended to by complete records, and completed once there is space again.

A run does not end because a log cannot be written. Records that fail are kept in memory (a log is small beside a
network) and retried with every later record and at the end.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import List

from shared.errors import reason


class AppendedFile:
    """A file open for appending. Raises OSError if it cannot be opened; later errors become `notes`."""

    def __init__(self, path: Path, notes: List[str]) -> None:
        self._path, self._notes = path, notes
        self._file = path.open("ab", buffering=0)
        self._kept: List[bytes] = []  # records not yet written
        self._failure = ""  # the reason why they could not be

    def write(self, record: bytes) -> None:
        """Append a record, or keep it for later. Does nothing once the file is closed."""
        if not self._file.closed:
            self._kept.append(record)
            self._write_kept()

    def _write_kept(self) -> None:
        failed_before, self._failure = self._failure, ""
        try:
            while self._kept:
                self._append(self._kept[0])
                del self._kept[0]
        except OSError as error:
            self._failure = reason(error)
            if not failed_before:
                then = "the run goes on, and adds what is missing there as soon as it can"
                self._notes.append(f"note: {self._path} cannot be written ({self._failure}); {then}")
        if failed_before and not self._failure:
            self._notes.append(f"note: {self._path} can be written again; nothing is missing in it")

    def _append(self, record: bytes) -> None:
        """Append the complete record. Raises OSError, with nothing of it left in the file, if that fails."""
        written = 0
        try:
            while written < len(record):  # a nearly full disk takes a part
                written += self._file.write(record[written:]) or 0
        except OSError:
            if written:
                with contextlib.suppress(OSError):  # it may be a pipe
                    os.ftruncate(self._file.fileno(), os.fstat(self._file.fileno()).st_size - written)
            raise

    def sync(self) -> None:
        """Make what has been written survive a power cut."""
        with contextlib.suppress(OSError):  # a pipe; failed writes are retried or reported elsewhere
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Try a last time to write the kept records, and close the file."""
        self._write_kept()
        if self._failure:
            self._notes.append(f"note: {self._path} lacks its last {len(self._kept)} entries ({self._failure})")
        with contextlib.suppress(OSError):
            self._file.close()
