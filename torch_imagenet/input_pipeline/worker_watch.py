"""Detects data workers that die or hang, but only while the main process waits for a batch.

torch reports the death of a worker from a SIGCHLD handler, wherever the main process is, even in the middle of a step
or a checkpoint. Here that handler is removed, and a timer checks the workers during each wait.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from typing import Any, Iterator, Optional, Tuple

from shared.errors import RunEnded

PATIENCE = 600.0  # seconds; the default of --timeout
_SECONDS = 0.5  # between two checks
_REAPED_SECONDS = 2.0  # the longest time in which a killed process becomes visible as dead


class WorkerWatch:
    """Watches the workers of a DataLoader's iterator."""

    def __init__(self, iterator: Any, patience: float) -> None:
        self._iterator, self._workers, self._patience = iterator, iterator._workers, patience
        self._began: Optional[float] = None  # start of the current wait; None outside one

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Around the wait for a batch: raises RunEnded where a worker is dead or gives no batch in time."""
        if (
            threading.current_thread() is not threading.main_thread()
        ):  # only the main thread gets signals; here torch polls by itself
            yield
            return
        self._began = time.monotonic()
        before = signal.signal(signal.SIGALRM, self._check)
        signal.setitimer(signal.ITIMER_REAL, _SECONDS, _SECONDS)
        try:
            yield
        except RunEnded:
            self._kill_all()
            raise
        except (RuntimeError, OSError, EOFError) as error:  # of torch, and of a message cut short
            lost = self._lost_soon()
            if lost is None:
                raise
            self._kill_all()
            raise lost from error
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
            raise RunEnded(
                f"{self._waited_for()} has given no batch for {self._patience:g} seconds; look at the disk or network"
                " that the images are on, or give it more time with --timeout SECONDS"
            )

    def _lost_soon(self) -> Optional[RunEnded]:
        end = time.monotonic() + _REAPED_SECONDS
        while True:
            lost = self._lost()
            if lost is not None or time.monotonic() >= end:
                return lost
            time.sleep(0.05)

    def _lost(self) -> Optional[RunEnded]:
        for number, worker in enumerate(self._workers):
            if not worker.is_alive():
                what, advice = _ended(worker.exitcode)
                return RunEnded(f"{self._name(number)} {what}; {advice}")
        return None

    def _waited_for(self) -> str:
        task: Tuple[Any, ...] = getattr(self._iterator, "_task_info", {}).get(self._iterator._rcvd_idx, ())
        return self._name(task[0]) if task else "a data worker"

    def _name(self, number: int) -> str:
        return f"data worker {number} of {len(self._workers)} (process {self._workers[number].pid})"

    def _kill_all(self) -> None:
        for worker in self._workers:  # torch's shutdown would wait for a worker that hangs and for a message cut short
            with contextlib.suppress(OSError):
                worker.kill()


@contextlib.contextmanager
def without_torchs_handler() -> Iterator[None]:
    """Restores the handler of SIGCHLD, which torch replaces when it creates an iterator with workers."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGCHLD)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL if before is None else before)


def _ended(status: Optional[int]) -> Tuple[str, str]:
    """What happened to a worker with this exit status, and what to do."""
    if status is None or status >= 0:
        return f"has ended with status {status}", "look above for its reason"
    number = -status
    name = f"was killed by signal {number}, {signal.Signals(number).name}"
    if number == signal.SIGKILL:
        return f"{name}, as happens when memory runs out", "use fewer --workers"
    if number == signal.SIGBUS:
        return name, "give it more shared memory (docker run --shm-size), or use fewer --workers"
    return name, "look for the image that does it with check-data"
