"""A pool of processes whose results come in order. With one worker, the work is done in this process."""

from __future__ import annotations

import os
import signal
from collections import deque
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Callable, Deque, Iterable, Iterator, Tuple, TypeVar

from shared.errors import DataError
from shared.system import orphans

T = TypeVar("T")  # a tag, which stays in this process
A = TypeVar("A")  # an argument, which is sent to a worker
R = TypeVar("R")  # the result


class ProcessPool:
    """`workers` processes, started at the first use and ended with the `with` statement."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._processes = ProcessPoolExecutor(workers, initializer=_begin, initargs=(os.getpid(),))

    def results(
        self, work: Callable[[A], R], items: Iterable[Tuple[T, A]], ahead: int, name: Callable[[T], str]
    ) -> Iterator[Tuple[T, R]]:
        """Yield (tag, work(argument)) for each (tag, argument), in order. `work` must be a function of a module.

        At most `ahead` results are computed in advance. Raises DataError if a process dies, which says `name(tag)`.
        """
        if self.workers == 1:
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
        self._processes.shutdown()


def _begin(started_by: int) -> None:
    """Leave Ctrl-C to the parent process, and end on SIGTERM whatever handlers were inherited."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    orphans.end_with_parent(started_by)
