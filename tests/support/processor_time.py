"""A pytest plugin: a test that takes more than two seconds of processor time fails unless it is marked slow.

It counts user and system time of the test's process and of the children that it has waited for, in set-up and call. A
fixture of a wider scope counts for the first test that uses it. Seconds are those of the machine on which the
calibration below was timed. The calibration is repeated in every process, and again when a test exceeds the limit; a
slower or busier machine gets more time in proportion.
"""

from __future__ import annotations

import os
import time
from typing import Iterator

import numpy as np
import pytest

LIMIT = 2.0  # seconds on the calibrated machine
TOLERANCE = 1.5  # for noise of the measurement on a shared machine
CALIBRATION = 0.020  # seconds that `calibrate` takes there


class ProcessorTime:
    """Fails unmarked tests that take more than `limit` calibrated seconds times `TOLERANCE`."""

    def __init__(self, limit: float = LIMIT) -> None:
        self.limit = limit
        self._began = 0.0
        self._slowness = 0.0  # of this machine, as a factor; measured on first use

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        self._began = processor_seconds()

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo) -> Iterator[None]:
        outcome = yield
        report = outcome.get_result()
        if call.when != "call" or not report.passed or item.get_closest_marker("slow"):
            return
        seconds = processor_seconds() - self._began
        if seconds > self.limit and seconds > self.limit * TOLERANCE * self._slow():
            report.outcome = "failed"
            report.longrepr = (
                f"{item.nodeid} took {seconds:.1f} s of processor time, more than {self.limit:g} s on a machine that is"
                f" {self._slow():.1f} times as slow as the calibrated one; make it cheaper or mark it slow"
            )

    def _slow(self) -> float:
        """The largest slow-down against the calibrated machine measured so far, at least 1."""
        self._slowness = max(1.0, self._slowness, calibrate() / CALIBRATION)
        return self._slowness


def processor_seconds() -> float:
    """User and system time of this process and of its children that have been waited for, in seconds."""
    return sum(os.times()[:4])


def calibrate() -> float:
    """Processor seconds of a fixed workload of Python and NumPy loops, the median of three."""
    times = []
    for _ in range(3):
        began = time.process_time()
        total, values = 0, np.arange(4096.0)
        for number in range(400_000):
            total += number % 7
        for _ in range(1600):
            values = np.sqrt(values * values + 1.0)
        times.append(time.process_time() - began)
    return sorted(times)[1]
