"""Ctrl-C, SIGTERM, a closed terminal and a closed pipe as requests to finish the step, write a checkpoint and stop."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from typing import Any, Callable, Dict, Iterator, NoReturn, Optional, TextIO

# What asks a process to end. SIGHUP: the terminal, or the connection to it, is gone; Windows has none.
REQUESTS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
_ALWAYS = (signal.SIGINT, signal.SIGTERM)


class Stopped(Exception):
    """The run was asked to stop and has; `exit_status` is the shell's convention, 128 plus the signal's number."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_status = 128 + number


def stop_at_once(number: int) -> NoReturn:
    """What `Interrupts.forwarded` takes where there is no step to finish. Raises Stopped."""
    raise Stopped(number)


def reader_gone(stream: TextIO) -> Stopped:
    """Stopped by SIGPIPE, for a BrokenPipeError on this stream, as in `| head`; later output to it is discarded."""
    with contextlib.suppress(OSError, ValueError):  # a stream in memory has no descriptor
        descriptor = stream.fileno()
        null = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(null, descriptor)
        finally:
            os.close(null)
    return Stopped(signal.SIGPIPE)


class Interrupts:
    """While entered, the first of `REQUESTS` is stored in `requested`; a second one raises Stopped immediately."""

    def __init__(self) -> None:
        self.requested: Optional[int] = None
        self._previous: Dict[int, Any] = {}
        self._first_only = False
        self._receiver: Optional[Callable[[int], Any]] = None

    def __enter__(self) -> Interrupts:
        for number in REQUESTS:
            if number in _ALWAYS or signal.getsignal(number) != signal.SIG_IGN:  # nohup has SIGHUP ignored
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *error: Any) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def forwarded(self, receiver: Callable[[int], Any]) -> Iterator[None]:
        """Inside, `receiver` is called with every signal, and with one that has come before."""
        self._receiver = receiver
        try:
            if self.requested is not None:
                receiver(self.requested)
            yield
        finally:
            self._receiver = None

    def once(self) -> None:
        """From here on only the first signal counts; for a process that its parent ends if it takes too long."""
        self._first_only = True

    def raise_if_requested(self) -> None:
        """Raises Stopped if a signal has come."""
        if self.requested is not None:
            raise Stopped(self.requested)

    def _handle(self, number: int, frame: Any) -> None:
        if self._receiver is not None:
            self._receiver(number)
        elif self.requested is not None and not self._first_only:
            raise Stopped(number)
        else:
            self.requested = self.requested or number


class _Requested(BaseException):
    """Not an Exception: what is interrupted may be somebody's code that goes on after any of those."""


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Inside, a request that `Interrupts` would only store raises Stopped at once: for what takes minutes and no steps.

    Where other handlers are in force, as in a notebook, they stay.
    """

    def stop(number: int, frame: Any) -> NoReturn:
        raise _Requested(number)

    held: Dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        handlers = {number: signal.getsignal(number) for number in REQUESTS}
        held = {number: old for number, old in handlers.items() if isinstance(getattr(old, "__self__", 0), Interrupts)}
    try:
        for number, handler in held.items():
            signal.signal(number, stop)
            handler.__self__.raise_if_requested()
        yield
    except _Requested as request:
        raise Stopped(request.args[0]) from None
    finally:
        for number, handler in held.items():
            signal.signal(number, handler)
