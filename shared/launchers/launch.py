"""Runs a launcher's plan: moves earlier files aside, runs the command and writes the result files.

The command's output goes to the console and a log file, and signals are forwarded to it.
"""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence, TextIO

from shared.errors import UsageError
from shared.launchers.placement import check_adapter
from shared.launchers.plan import Plan
from shared.launchers.result_file import CONSOLE, fields, logged_losses
from shared.results.record import read_record
from shared.run.append_log import AppendedFile
from shared.run.folder import move_to_previous
from shared.system.atomic_files import write_atomic
from shared.system.processes import followed
from shared.system.signals import Interrupts, Stopped, reader_gone
from shared.text import encoded

_RESULTS = ("*_bs*.log", "train_*_loss.txt")  # in test/output/<device-id>, besides the log
_GRACE = 10  # seconds to read the rest of a pipe after the command has ended


def launch(plan: Plan, interrupts: Interrupts) -> None:
    """Run the plan's command; write the result files if it exits with status 0. Signals are forwarded to it.

    Raises SystemExit with the status otherwise, and UsageError if the NPU's package is missing, the output folder
    cannot be written or the command was killed.
    """
    begin = time.time()
    check_adapter(plan.adapters)
    aside = move_to_previous(plan.output, [plan.log.name, *(_RESULTS if plan.first else ())])
    with Tee(plan.log, sys.stdout, sys.stderr) as tee:
        tee.lines(plan.head if plan.first else [])
        if aside:
            tee.lines([f"note: what an earlier launcher left in {plan.output} is now in {aside}"])
        interrupts.raise_if_requested()
        status = run(plan.command, plan.exported, tee, interrupts)
        if status == 128 + signal.SIGKILL:
            raise UsageError(f"main.py was killed (out of memory?); continue with --resume={plan.run}, or start again")
        if status:
            raise SystemExit(status)
        if plan.first:
            tee.console_lines(_write_results(plan, time.time() - begin))
        else:
            tee.lines(["note: the results are where --node_rank is 0"])


def _write_results(plan: Plan, seconds: float) -> List[str]:
    """Write <CaseName>.log and train_<CaseName>_loss.txt; return the lines for the console."""
    record = read_record(plan.run / "result.json")
    suffix = plan.launcher.suffixes.get(record["network"], plan.launcher.suffix)
    losses = [] if record["mode"] == "evaluate" else logged_losses(plan.run / "events.jsonl")
    values = fields(record, losses, suffix, platform.machine(), seconds)
    case = values["CaseName"]
    if losses:
        write_atomic(plan.output / f"train_{case}_loss.txt", "".join(f"{loss:.6f}\n" for loss in losses))
    write_atomic(plan.output / f"{case}.log", "".join(f"{key} = {value}\n" for key, value in values.items()))
    return CONSOLE.format(**values).splitlines()


class Tee:
    """Writes the same bytes to the console, streams `out` and `err`, and to a log, whose folder is made.

    The console gets them at once, the log in complete lines, so that lines of the two streams do not mix. For a full
    disk see `AppendedFile`.
    """

    def __init__(self, log: Path, out: TextIO, err: TextIO) -> None:
        self._notes: List[str] = []
        self._lock = threading.Lock()
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
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
        self._show(console, data)

    @staticmethod
    def _show(console: TextIO, data: bytes) -> None:
        try:
            console.buffer.write(data)
            console.flush()
        except BrokenPipeError:
            raise reader_gone(console) from None

    def lines(self, lines: Sequence[str]) -> None:
        """Write these lines to standard output and the log."""
        self.write(self.out, encoded("".join(f"{line}\n" for line in lines)))

    def console_lines(self, lines: Sequence[str]) -> None:
        """Write these lines to standard output alone: the log ends as the command's output does."""
        self._show(self.out, encoded("".join(f"{line}\n" for line in lines)))

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
    environment = {**os.environ, **exported, **followed()}
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, start_new_session=True
    )
    with interrupts.forwarded(process.send_signal):
        threads = [
            threading.Thread(target=_copy, args=copied, daemon=True)
            for copied in ((process.stdout, tee, tee.out), (process.stderr, tee, tee.err))
        ]
        for thread in threads:
            thread.start()
        status = process.wait()
        if status < 0:
            # The command's ranks may have outlived it; they hold the device and our pipes.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        for thread in threads:
            thread.join(_GRACE)
    return status if status >= 0 else 128 - status


def _copy(source: Any, tee: Tee, console: TextIO) -> None:
    """Copy the pipe `source` to the tee."""
    # Where nobody reads the console, as in `| head`, the command learns it from our closed end of the pipe.
    with source, contextlib.suppress(Stopped):
        for data in iter(lambda: os.read(source.fileno(), 1 << 16), b""):
            tee.write(console, data)
