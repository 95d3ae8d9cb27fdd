"""Timing for the benchmarks: contenders take turns in one process, so that drift of the machine cancels in ratios."""

from __future__ import annotations

import statistics
import time
from typing import Callable, Dict, List, NamedTuple, Sequence

Contender = Callable[[int], int]  # zero-based round, with warm-up -> number of images processed


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
