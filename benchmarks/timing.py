"""Timing for the benchmarks: contenders take turns, so that drift of the machine cancels in ratios.

They are functions of one process, or processes of their own: what one sets for all of its process (the allocator, the
threads) must not help the other.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from typing import Callable, Dict, List, NamedTuple, Sequence

Contender = Callable[[int], int]  # zero-based round, with warm-up -> number of images processed


class Process:
    """A contender in a process of its own, which calls `serve`; it waits, without work, while others have their turn.

    Raises RuntimeError where the process has ended. To be closed.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._command = list(command)
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, attempt: int) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(f"{attempt}\n")
            self._process.stdin.flush()
            return int(self._process.stdout.readline())
        except (BrokenPipeError, ValueError):
            status = self._process.wait()
            raise RuntimeError(f"{' '.join(self._command)} ended with status {status}") from None

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.communicate()  # the end of its input ends it


def serve(contender: Contender) -> None:
    """The other side of `Process`: a round for each line of standard input, until it ends.

    What the contender prints goes to standard error.
    """
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        for line in sys.stdin:
            print(contender(int(line)), file=answers, flush=True)


class Row(NamedTuple):
    """A contender: the seconds and the images per second of every round, and the ratio to the first contender's."""

    name: str
    seconds: List[float]
    rates: List[float]
    ratios: List[float]


def measure(
    contenders: Dict[str, Contender], rounds: int, warm_up: int = 1, clock: Callable[[], float] = time.perf_counter
) -> List[Row]:
    """Let the contenders take turns, in an order that alternates from round to round.

    The first `warm_up` rounds do not count. `time.process_time` as the clock hardly counts other programs, nor worker
    processes.
    """
    rows = {name: Row(name, [], [], []) for name in contenders}
    for attempt in range(warm_up + rounds):
        for name in list(contenders)[:: -1 if attempt % 2 else 1]:
            begin = clock()
            images = contenders[name](attempt)
            if attempt >= warm_up:
                rows[name].seconds.append(clock() - begin)
                rows[name].rates.append(images / rows[name].seconds[-1])
    baseline = next(iter(rows.values())).rates
    for row in rows.values():
        row.ratios.extend(rate / reference for rate, reference in zip(row.rates, baseline))
    return list(rows.values())


def report(rows: Sequence[Row]) -> str:
    """One line per contender: the median time and rate, and the median and range of the ratio."""
    width = max(len(row.name) for row in rows)
    return "".join(
        f"  {row.name:<{width}} {1000 * statistics.median(row.seconds):10.1f} ms"
        f" {statistics.median(row.rates):10.1f} images/s   ratio {statistics.median(row.ratios):.3f}"
        f" ({min(row.ratios):.3f} to {max(row.ratios):.3f})\n"
        for row in rows
    )
