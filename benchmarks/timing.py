"""Timing for the benchmarks: contenders take turns in one process, so that drift of the machine cancels in ratios."""

from __future__ import annotations

import statistics
import time
from typing import Callable, Dict, List, Sequence

Epoch = Callable[[int], int]  # zero-based epoch -> number of images processed


def median_and_range(values: Sequence[float], digits: int = 2) -> str:
    """Text such as "1.06 (1.01 to 1.15)"."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def milliseconds(step: Callable[[], None], synchronize: Callable[[], None] = lambda: None) -> float:
    """The duration of one step; `synchronize` waits for the work that the device has queued."""
    synchronize()
    begin = time.perf_counter()
    step()
    synchronize()
    return 1000 * (time.perf_counter() - begin)


def compare_epochs(contenders: Dict[str, Epoch], workers: int, rounds: int) -> List[str]:
    """One line per contender: images per second, and the ratio to the first contender in the same round.

    Without workers the clock is that of the processor, so that other programs hardly count. The order alternates from
    round to round. One epoch of each is run before the measurement, which also starts the workers.
    """
    clock = time.perf_counter if workers else time.process_time
    for epoch in contenders.values():
        epoch(0)
    speeds: Dict[str, List[float]] = {name: [] for name in contenders}
    for attempt in range(rounds):
        for name in list(contenders)[:: -1 if attempt % 2 else 1]:
            begin = clock()
            images = contenders[name](1 + attempt)
            speeds[name].append(images / (clock() - begin))
    width, baseline = max(map(len, contenders)), next(iter(speeds.values()))
    return [
        f"  {name:<{width}} {statistics.median(values):8.0f} images/s   ratio "
        + median_and_range([value / reference for value, reference in zip(values, baseline)], 3)
        for name, values in speeds.items()
    ]
