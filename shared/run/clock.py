"""Throughput that can be compared: warm-up skipped, pauses left out, total images over total time.

A mean of per-step rates flatters (one fast step weighs as much as a slow one), so rates here are always all
timed images divided by all timed seconds. Percentiles come from a histogram of step times whose cells are 0.5
% wide: its memory does not grow with the run, a percentile is exact to 0.25 %, and it fits into a checkpoint.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, Optional

_CELL = math.log(1.005)
_SHORTEST = 1e-9  # seconds; a clock too coarse to see a step reports 0, which has no logarithm


@dataclass
class _Totals:
    """Sums over the timed steps of a run, or of one window of it."""

    steps: int = 0
    images: int = 0
    seconds: float = 0.0
    waited: float = 0.0  # seconds spent waiting for data ...
    seconds_observed: float = 0.0  # ... out of the seconds of those steps for which the wait was measured
    longest: float = 0.0
    shortest: float = math.inf
    cells: Dict[int, int] = dataclasses.field(default_factory=dict)

    def add(self, steps: int, images: int, seconds: float, waited: Optional[float]) -> None:
        """`steps` equally long steps that have taken `seconds` together."""
        self.steps += steps
        self.images += images
        self.seconds += seconds
        if waited is not None:
            self.waited += min(waited, seconds)
            self.seconds_observed += seconds
        each = seconds / steps
        self.shortest, self.longest = min(self.shortest, each), max(self.longest, each)
        cell = round(math.log(max(each, _SHORTEST)) / _CELL)
        self.cells[cell] = self.cells.get(cell, 0) + steps

    def percentile_ms(self, percent: int) -> float:
        """Nearest-rank percentile of the step time in milliseconds."""
        remaining, cell = math.ceil(self.steps * percent / 100), 0
        for cell in sorted(self.cells):
            remaining -= self.cells[cell]
            if remaining <= 0:
                break
        return 1000 * min(max(math.exp(cell * _CELL), self.shortest), self.longest)

    def summary(self) -> Dict[str, Any]:
        if not self.steps or self.seconds <= 0:
            return {}
        wait = {"data_wait_share": self.waited / self.seconds_observed} if self.seconds_observed > 0 else {}
        return {
            "images_per_second": self.images / self.seconds,
            "step_ms_p50": self.percentile_ms(50),
            "step_ms_p95": self.percentile_ms(95),
            **wait,
            "steps_timed": self.steps,
        }


class Clock:
    """Times the steps of a training loop: make it right before the first step and call `step` at the end of each.

    The first `warmup_steps` (compilation, caches, filling of queues) are not counted. `now` returns seconds, for tests.
    The sums of `state`, from `to_state`, are continued; a resumed process compiles and warms up anew.
    """

    def __init__(
        self,
        warmup_steps: int = 10,
        now: Callable[[], float] = time.perf_counter,
        state: Optional[Dict[str, Any]] = None,
    ) -> None:
        self._now = now
        self._warmup_left = warmup_steps
        self._pauses_open = 0
        self._paused_seconds = 0.0
        self._run, self._window, self._lap, self._warm_up = _Totals(), _Totals(), _Totals(), _Totals()
        if state is not None:
            sums = {field.name: state[field.name] for field in dataclasses.fields(_Totals)}
            shortest = math.inf if sums["shortest"] is None else sums["shortest"]
            self._run = _Totals(**dict(sums, shortest=shortest, cells=dict(sums["cells"])))
        self._last = now()

    def to_state(self) -> Dict[str, Any]:
        """The sums of the run so far, JSON-able."""
        run = self._run
        cells = [[cell, run.cells[cell]] for cell in sorted(run.cells)]
        return dict(vars(run), shortest=run.shortest if run.steps else None, cells=cells)

    def step(
        self, images: int, data_wait_seconds: Optional[float] = None, count: int = 1, warming_up: bool = False
    ) -> None:
        """`count` equally long steps over `images` images end now, after `data_wait_seconds` of waiting for data.

        Of a device that works while the host goes on, the time is known only where the host waits for it. Where the
        warm-up ends inside, all of them belong to it. Steps for which a program was compiled are `warming_up` again.
        Raises RuntimeError inside `paused`.
        """
        if self._pauses_open:
            raise RuntimeError("a step ended while the clock was paused")
        now = self._now()
        seconds = max(0.0, now - self._last - self._paused_seconds)
        self._last, self._paused_seconds = now, 0.0
        if self._warmup_left or warming_up:
            self._warmup_left = max(0, self._warmup_left - count)
            self._warm_up.add(count, images, seconds, data_wait_seconds)
            return
        for totals in (self._run, self._window, self._lap):
            totals.add(count, images, seconds, data_wait_seconds)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Time spent inside (evaluation, a checkpoint) belongs to no step. May be nested."""
        self._pauses_open += 1
        begin = self._now()
        try:
            yield
        finally:
            self._pauses_open -= 1
            if not self._pauses_open:  # the outermost pause holds the inner ones
                self._paused_seconds += self._now() - begin

    def summary(self) -> Dict[str, Any]:
        """The `throughput` part of a record; {} before a step is timed, without data_wait_share where no wait was."""
        return self._run.summary()

    def window(self) -> Dict[str, Any]:
        """The same over the steps since the last call, for log lines."""
        summary, self._window = self._window.summary(), _Totals()
        return summary

    def lap(self) -> Dict[str, Any]:
        """The same over the steps since the last call of this one, for the lines of an epoch."""
        summary, self._lap = self._lap.summary(), _Totals()
        return summary

    def lap_so_far(self) -> Dict[str, Any]:
        """What `lap` would return."""
        return self._lap.summary()

    def warm_up(self) -> Dict[str, Any]:
        """The same over the steps of the warm-up since the last call: for log lines, and part of no throughput."""
        summary, self._warm_up = self._warm_up.summary(), _Totals()
        return summary
