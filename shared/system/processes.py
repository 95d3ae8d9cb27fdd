"""Processes that end with their parent, even if it is killed and cannot stop them; and a pool of such processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Callable, Deque, Dict, Iterable, Iterator, Optional, Tuple, TypeVar

from shared.errors import DataError

VARIABLE = "KIT_PARENT"
_SECONDS = 0.5  # between two checks of the parent
_GRACE = 60.0  # to finish the step and write a checkpoint

T = TypeVar("T")  # a tag, which stays in this process
A = TypeVar("A")  # an argument, which is sent to a worker
R = TypeVar("R")  # the result


def followed() -> Dict[str, str]:
    """Environment variables for a child process that is to end with this one; see `follow`."""
    return {VARIABLE: str(os.getpid())}


def follow() -> None:
    """End with the parent, if it asked for that by `followed`: by SIGTERM, with a checkpoint, and later by SIGKILL."""
    text = os.environ.pop(VARIABLE, "")  # not for child processes of this one
    if text.isdigit() and os.getppid() == int(text):
        _when_orphaned(_terminate)
    elif text.isdigit() and not _lives(int(text)):  # else another program between the two is responsible
        _terminate()


def _end_with_parent(started_by: int) -> None:
    """Exit at once when the process that started this worker process has ended."""
    if multiprocessing.get_start_method() == "fork" and os.getppid() != started_by:
        os._exit(1)
    _when_orphaned(lambda: os._exit(1))


def _when_orphaned(do: Callable[[], None]) -> None:
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_SECONDS)
        do()

    threading.Thread(target=watch, daemon=True).start()


def _terminate() -> None:
    timer = threading.Timer(_GRACE, os.kill, (os.getpid(), signal.SIGKILL))
    timer.daemon = True
    timer.start()
    os.kill(os.getpid(), signal.SIGTERM)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except OSError as error:
        return not isinstance(error, ProcessLookupError)
    return True


class ProcessPool:
    """`workers` processes, started at the first use and ended with the `with` statement; of one, this process works."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._processes: Optional[ProcessPoolExecutor] = None
        if workers > 1:  # not every container has the semaphores that it needs
            self._processes = ProcessPoolExecutor(workers, initializer=_begin, initargs=(os.getpid(),))

    def results(
        self, work: Callable[[A], R], items: Iterable[Tuple[T, A]], ahead: int, name: Callable[[T], str]
    ) -> Iterator[Tuple[T, R]]:
        """Yield (tag, work(argument)) for each (tag, argument), in order. `work` must be a function of a module.

        At most `ahead` results are computed in advance. Raises DataError if a process dies, which says `name(tag)`.
        """
        if self._processes is None:
            yield from ((tag, work(argument)) for tag, argument in items)
            return
        running: Deque[Tuple[T, Future[R]]] = deque()

        def finished() -> Tuple[T, R]:
            tag, future = running.popleft()
            try:
                return tag, future.result()
            except BrokenProcessPool as error:
                what = f"a process died near {name(tag)}, out of memory or of a hostile file"
                raise DataError(f"{what}; try --workers 1") from error

        try:
            for tag, argument in items:
                running.append((tag, self._processes.submit(work, argument)))
                if len(running) >= ahead:
                    yield finished()
            while running:
                yield finished()
        finally:
            for _, future in running:
                future.cancel()

    def __enter__(self) -> ProcessPool:
        return self

    def __exit__(self, *error: Any) -> None:
        if self._processes is not None:
            self._processes.shutdown()


def _begin(started_by: int) -> None:
    """Leave Ctrl-C to the parent process, and end on SIGTERM whatever handlers were inherited."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _end_with_parent(started_by)
