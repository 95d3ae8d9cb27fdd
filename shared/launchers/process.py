"""Runs the command of a launcher: what it says goes to the console and to a file, signals go to the command."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence, TextIO

from shared.cli.signals import Stopped, heard, reader_gone
from shared.errors import UsageError
from shared.run.append_log import AppendedFile
from shared.system import orphans
from shared.text import encoded

_GRACE = 10  # seconds for what is left in a pipe, after the command has ended


class Tee:
    """The console, `out` and `err`, and a log that gets the same bytes.

    The console has them at once. The log has whole lines, because both streams end in it and a line of one would
    otherwise be written into the middle of a line of the other. Where the disk does not take them, see `AppendedFile`.
    """

    def __init__(self, log: Path, out: TextIO, err: TextIO) -> None:
        self._notes: List[str] = []
        self._one_at_a_time = threading.Lock()
        try:
            self._log = AppendedFile(log, self._notes)
        except OSError as error:
            raise UsageError(f"cannot write {log} ({error.strerror or error}); check its permissions") from error
        self.out, self.err = out, err
        self._unfinished: Dict[TextIO, bytes] = {}  # of each stream, what follows its last whole line

    def write(self, console: TextIO, data: bytes) -> None:
        """Raises Stopped where nobody reads the console any more; the log has the bytes then too."""
        whole, newline, self._unfinished[console] = (self._unfinished.get(console, b"") + data).rpartition(b"\n")
        if newline:
            with self._one_at_a_time:
                self._log.write(whole + newline)
            self._say_notes()
        try:
            console.buffer.write(data)
            console.flush()
        except BrokenPipeError:
            raise reader_gone(console) from None

    def lines(self, lines: Sequence[str]) -> None:
        """These lines, to the console's output and the log."""
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


def run(command: Sequence[str], exported: Mapping[str, str], tee: Tee) -> int:
    """The exit status of the command, 128 plus the signal's number where one has ended it.

    It runs in a session of its own: a terminal's Ctrl-C then reaches us alone, and the command once, from us. Twice
    would mean to stop without a checkpoint.
    """
    with _Forwarded() as forwarded:
        process = subprocess.Popen(
            list(command),
            env={**os.environ, **exported, **orphans.followed()},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        forwarded.to(process)
        pumps = [_pump(process.stdout, tee, tee.out), _pump(process.stderr, tee, tee.err)]
        status = process.wait()
        if status < 0:
            _end_ranks(process.pid)
        for pump in pumps:
            pump.join(_GRACE)
    return status if status >= 0 else 128 - status


def _pump(source: Any, tee: Tee, console: TextIO) -> threading.Thread:
    def copy() -> None:
        with source, contextlib.suppress(Stopped):  # as in `| head`: that our end is closed tells the command
            for data in iter(lambda: os.read(source.fileno(), 1 << 16), b""):
                tee.write(console, data)

    thread = threading.Thread(target=copy, daemon=True)
    thread.start()
    return thread


def _end_ranks(group: int) -> None:
    """Whoever killed the command may have left its ranks behind, and with them the device and our pipes."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


class _Forwarded:
    """While entered, each of `REQUESTS` that comes goes to the process, also one that came before it was there."""

    def __init__(self) -> None:
        self._early: List[int] = []
        self._before: Dict[int, Any] = {}
        self._process: Any = None

    def __enter__(self) -> _Forwarded:
        for number in heard():
            self._before[number] = signal.signal(number, self._forward)
        return self

    def to(self, process: Any) -> None:
        self._process = process
        for number in self._early:
            process.send_signal(number)

    def _forward(self, number: int, frame: Any) -> None:
        if self._process is None:
            self._early.append(number)
        else:
            self._process.send_signal(number)

    def __exit__(self, *error: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
