"""Between the main process and its data workers: signals, lost connections, workers that die or hang.

A worker that dies or hangs is detected, but only while the main process waits for a batch: torch reports the death
of a worker from a SIGCHLD handler, wherever the main process is, even in the middle of a step or a checkpoint. Here
that handler is removed, and a timer checks the workers during each wait.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from types import TracebackType
from typing import Any, Iterator, Optional, Type

from shared.errors import RunEnded
from shared.system.signals import REQUESTS

PATIENCE = 600.0  # seconds; the default of --timeout
_SECONDS = 0.5  # between two checks
_REAPED_SECONDS = 2.0  # the longest time in which a killed process becomes visible as dead


def prepare_worker(worker: int) -> None:
    """In a worker, before its first batch: leave to the main process what concerns the run.

    The signals that a terminal or a scheduler sends to all processes are ignored, and no traceback is printed where
    the main process is killed while it fetches a batch. Its end is reported by whoever started it.
    """
    for number in REQUESTS:
        signal.signal(number, signal.SIG_IGN)
    # multiprocessing's thread that hands over shared memory passes its errors to this hook, and nothing else does.
    sys.excepthook = _without_lost_connections


def _without_lost_connections(
    kind: Type[BaseException], error: BaseException, traceback: Optional[TracebackType]
) -> None:
    if not isinstance(error, (ConnectionError, EOFError)):
        sys.__excepthook__(kind, error, traceback)


class WorkerWatch:
    """Watches the workers of a DataLoader's `iterator`; None: there are none yet."""

    def __init__(self, patience: float) -> None:
        self.iterator: Any = None
        self._patience = patience
        self._began: Optional[float] = None  # start of the current wait; None outside one

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Around the wait for a batch: raises RunEnded where a worker is dead or gives no batch in time."""
        if self.iterator is None or threading.current_thread() is not threading.main_thread():
            # Only the main thread gets signals; in another one torch polls by itself.
            yield
            return
        self._began = time.monotonic()
        before = signal.signal(signal.SIGALRM, self._check)
        signal.setitimer(signal.ITIMER_REAL, _SECONDS, _SECONDS)
        try:
            yield
        except (RunEnded, RuntimeError, OSError, EOFError) as error:  # ours, torch's, those of a message cut short
            lost = error if isinstance(error, RunEnded) else self._lost(within=_REAPED_SECONDS)
            if lost is None:
                raise
            for worker in self.iterator._workers:  # torch would wait for one that hangs and for a message cut short
                with contextlib.suppress(OSError):
                    worker.kill()
            raise lost from (None if lost is error else error)
        finally:
            self._began = None
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def _check(self, number: int, frame: Any) -> None:
        if self._began is None:
            return
        lost = self._lost()
        if lost is not None:
            raise lost
        if time.monotonic() - self._began >= self._patience:
            task = getattr(self.iterator, "_task_info", {}).get(self.iterator._rcvd_idx)
            raise RunEnded(
                f"{self._name(task[0]) if task else 'a data worker'} has given no batch for {self._patience:g} seconds;"
                " look at the disk or network that the images are on, or give it more time with --timeout SECONDS"
            )

    def _lost(self, within: float = 0.0) -> Optional[RunEnded]:
        """The error of a worker that is dead now or `within` these seconds."""
        end = time.monotonic() + within
        while True:
            for number, worker in enumerate(self.iterator._workers):
                if not worker.is_alive():
                    return RunEnded(f"{self._name(number)} {_end(worker.exitcode)}")
            if time.monotonic() >= end:
                return None
            time.sleep(0.05)

    def _name(self, number: int) -> str:
        workers = self.iterator._workers
        return f"data worker {number} of {len(workers)} (process {workers[number].pid})"


@contextlib.contextmanager
def without_torchs_handler() -> Iterator[None]:
    """Restores the handler of SIGCHLD, which torch replaces when it creates an iterator with workers."""
    before = signal.getsignal(signal.SIGCHLD)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGCHLD, signal.SIG_DFL if before is None else before)


def _end(status: Optional[int]) -> str:
    """What happened to a worker with this exit status, and what to do."""
    if status is None or status >= 0:
        return f"has ended with status {status}; look above for its reason"
    advice = "; look for the image that does it with check-data"
    if -status == signal.SIGKILL:
        advice = ", as happens when memory runs out; use fewer --workers"
    elif -status == signal.SIGBUS:
        advice = "; give it more shared memory (docker run --shm-size), or use fewer --workers"
    return f"was killed by signal {-status}, {signal.Signals(-status).name}{advice}"
