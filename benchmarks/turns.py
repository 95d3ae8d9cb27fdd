"""Contenders in processes of their own take turns, so that drift of the machine cancels in the ratios of a round.

Each has the allocator, threads and environment variables of its own program, which a process shared with its peer
would not give it.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, Dict, List, Mapping

from benchmarks.contender import Options, Ran
from shared.system.processes import followed

WORKER = Path(__file__).resolve().with_name("worker.py")
_SET_UP_SECONDS = 900.0  # at most, warm-up included
_ROUND_SECONDS = 300.0


class Failed(Exception):
    """A contender's process has ended, or taken too long; the message has the last line that it wrote."""


class Process:
    """A contender's process; `facts` are its account of itself once it is ready."""

    def __init__(
        self, python: str, target: str, options: Options, warm_up: int, environment: Mapping[str, str], log: Path
    ) -> None:
        self.facts: Dict[str, Any] = {}
        self._log = log
        command = [python, str(WORKER), target, json.dumps(options), str(warm_up)]
        with log.open("wb") as errors:  # a session of its own: Ctrl-C is for the driver, which ends it
            self._process = subprocess.Popen(
                command,
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, **environment, **followed()},
                start_new_session=True,
            )

    def wait_until_ready(self, deadline: float) -> None:
        """Raises Failed where it is not ready by then, in seconds of the monotonic clock."""
        self.facts = self._answer(min(deadline, time.monotonic() + _SET_UP_SECONDS), "its set-up")

    def round(self, attempt: int) -> Ran:
        """Run one round. Raises Failed."""
        with contextlib.suppress(BrokenPipeError):  # the answer tells
            self._process.stdin.write(f"{attempt}\n".encode())  # type: ignore[union-attr]
        return Ran(*self._answer(time.monotonic() + _ROUND_SECONDS, "a round"))

    def _answer(self, deadline: float, what: str) -> Any:
        readable, _, _ = select.select([self._process.stdout.fileno()], [], [], max(0.0, deadline - time.monotonic()))
        if not readable:
            raise Failed(f"{what} took too long")
        line = self._process.stdout.readline()  # type: ignore[union-attr]
        if not line:
            raise Failed(self._last_words())
        return json.loads(line)

    def _last_words(self) -> str:
        written = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return written[-1][:300] if written else f"ended with status {self._process.wait()} and no message"

    def terminate(self) -> None:
        """Ask it to end."""
        self._process.terminate()

    def close(self) -> None:
        """End it, and the processes that it has started."""
        self.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):  # it may be in the middle of native code
            self._process.wait(timeout=3)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(BrokenPipeError):
                stream.close()  # type: ignore[union-attr]


def take_turns(processes: Mapping[str, Process], rounds: int, deadline: float, least: int = 1) -> Dict[str, List[Ran]]:
    """The rounds of each, in an order that alternates from round to round.

    Fewer where the deadline is reached, but not fewer than `least`. Raises Failed.
    """
    ran: Dict[str, List[Ran]] = {name: [] for name in processes}
    for attempt in range(rounds):
        if attempt >= least and time.monotonic() > deadline:
            break
        for name in list(processes)[:: -1 if attempt % 2 else 1]:
            ran[name].append(processes[name].round(attempt))
    return ran
