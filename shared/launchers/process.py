"""Runs the command of a launcher: its output goes to the console and a log file, signals are forwarded to it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence, TextIO

from shared.errors import UsageError
from shared.run.append_log import AppendedFile
from shared.system.processes import followed
from shared.system.signals import Interrupts, Stopped, reader_gone
from shared.text import encoded

_GRACE = 10  # seconds to read the rest of a pipe after the command has ended


class Tee:
    """Writes the same bytes to the console, streams `out` and `err`, and to a log.

    The console gets them at once, the log in complete lines, so that lines of the two streams do not mix. For a full
    disk see `AppendedFile`.
    """

    def __init__(self, log: Path, out: TextIO, err: TextIO) -> None:
        self._notes: List[str] = []
        self._lock = threading.Lock()
        try:
            self._log = AppendedFile(log, self._notes)
        except OSError as error:
            raise UsageError(f"cannot write {log} ({error.strerror or error}); check its permissions") from error
        self.out, self.err = out, err
        self._unfinished: Dict[TextIO, bytes] = {}  # by stream, the bytes after its last newline

    def write(self, console: TextIO, data: bytes) -> None:
        """Raises Stopped where nobody reads the console any more; the log gets the bytes even so."""
        lines, newline, self._unfinished[console] = (self._unfinished.get(console, b"") + data).rpartition(b"\n")
        if newline:
            with self._lock:
                self._log.write(lines + newline)
            self._say_notes()
        try:
            console.buffer.write(data)
            console.flush()
        except BrokenPipeError:
            raise reader_gone(console) from None

    def lines(self, lines: Sequence[str]) -> None:
        """Write these lines to standard output and the log."""
        self.write(self.out, encoded("".join(f"{line}\n" for line in lines)))

    def _say_notes(self) -> None:
        while self._notes:
            with contextlib.suppress(OSError):  # it is only a note
                self.err.write(self._notes.pop(0) + "\n")
                self.err.flush()

    def __enter__(self) -> Tee:
        return self

    def __exit__(self, *error: Any) -> None:
        rest = b"".join(self._unfinished.values())
        if rest:
            self._log.write(rest)
        self._log.close()
        self._say_notes()


def run(command: Sequence[str], exported: Mapping[str, str], tee: Tee, interrupts: Interrupts) -> int:
    """The exit status of the command; 128 plus the signal's number where a signal ended it.

    The command has a session of its own, so that a terminal's Ctrl-C reaches only this process, which forwards it once.
    A second signal would make the command stop without a checkpoint.
    """
    process = subprocess.Popen(
        list(command),
        env={**os.environ, **exported, **followed()},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    with interrupts.forwarded(process.send_signal):
        threads = [_copy(process.stdout, tee, tee.out), _copy(process.stderr, tee, tee.err)]
        status = process.wait()
        if status < 0:
            # The command's ranks may have outlived it; they hold the device and our pipes.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        for thread in threads:
            thread.join(_GRACE)
    return status if status >= 0 else 128 - status


def _copy(source: Any, tee: Tee, console: TextIO) -> threading.Thread:
    """Start a thread that copies the pipe `source` to the tee."""

    def copy() -> None:
        # Where nobody reads the console, as in `| head`, the command learns it from our closed end of the pipe.
        with source, contextlib.suppress(Stopped):
            for data in iter(lambda: os.read(source.fileno(), 1 << 16), b""):
                tee.write(console, data)

    thread = threading.Thread(target=copy, daemon=True)
    thread.start()
    return thread
