"""Ctrl-C and SIGTERM as requests: the loop finishes its step, writes a checkpoint and leaves."""

from __future__ import annotations

import signal
from typing import Any, Dict, Optional


class Stopped(Exception):
    """The run was asked to stop and has; `exit_status` is the shell's convention, 128 plus the signal's number."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_status = 128 + number


class Interrupts:
    """While entered, the first SIGINT or SIGTERM is noted in `requested`; a second one raises Stopped on the spot."""

    def __init__(self) -> None:
        self.requested: Optional[int] = None
        self._before: Dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def raise_if_requested(self) -> None:
        """Raises Stopped if a signal has come."""
        if self.requested is not None:
            raise Stopped(self.requested)

    def _note(self, number: int, frame: Any) -> None:
        if self.requested is not None:
            raise Stopped(number)
        self.requested = number
