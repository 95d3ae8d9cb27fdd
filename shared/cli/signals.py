"""Ctrl-C, SIGTERM and a closed terminal as requests: the loop finishes its step, writes a checkpoint and leaves.

So does a closed pipe.
"""

from __future__ import annotations

import contextlib
import os
import signal
from typing import Any, Dict, Iterator, Optional, TextIO, Tuple

# What asks a process to end. SIGHUP: the terminal, or the connection to it, is gone; Windows has none.
REQUESTS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


def heard() -> Tuple[int, ...]:
    """Those of `REQUESTS` that this process listens to: nohup has SIGHUP ignored, and that stays so."""
    hangup = getattr(signal, "SIGHUP", None)
    return tuple(one for one in REQUESTS if one != hangup or signal.getsignal(one) != signal.SIG_IGN)


class Stopped(Exception):
    """The run was asked to stop and has; `exit_status` is the shell's convention, 128 plus the signal's number."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_status = 128 + number


def reader_gone(stream: TextIO) -> Stopped:
    """What a BrokenPipeError on this stream, as in `| head`, means: stopped by SIGPIPE, which Python turns into it.

    What is still written to the stream goes nowhere, so that neither the way out nor Python's end fails on it again.
    """
    with contextlib.suppress(OSError, ValueError):  # a stream in memory has no descriptor
        descriptor = stream.fileno()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, descriptor)
        finally:
            os.close(nowhere)
    return Stopped(signal.SIGPIPE)


class Interrupts:
    """While entered, the first of `REQUESTS` is noted in `requested`; a second one raises Stopped on the spot."""

    def __init__(self) -> None:
        self.requested: Optional[int] = None
        self._before: Dict[int, Any] = {}
        self._at_once = False
        self._once = False

    def __enter__(self) -> Interrupts:
        for number in heard():
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Inside, the first signal raises Stopped on the spot too: nothing here has a step to finish."""
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False

    def once(self) -> None:
        """From here on the first signal alone counts; for a process whose parent ends it when it takes too long."""
        self._once = True

    def raise_if_requested(self) -> None:
        """Raises Stopped if a signal has come."""
        if self.requested is not None:
            raise Stopped(self.requested)

    def _note(self, number: int, frame: Any) -> None:
        if self._at_once or (self.requested is not None and not self._once):
            raise Stopped(number)
        self.requested = self.requested or number
