"""A pytest plugin: what takes more than two seconds of processor time without being marked slow is listed at the end.

It counts user and system time of the test's process and of the children that it has waited for, in set-up and call. A
fixture of a wider scope counts for the first test that uses it. No test fails by it: how long one takes depends on the
machine and on what else it does.
"""

from __future__ import annotations

import os
from typing import Any, Iterator

import pytest

LIMIT = 2.0  # seconds
NAME = "processor seconds"  # of the property of a test's report that carries them to the process that prints


class ProcessorTime:
    """Lists unmarked tests that take more than `limit` seconds."""

    def __init__(self, limit: float = LIMIT) -> None:
        self.limit = limit
        self._began = 0.0

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        self._began = processor_seconds()

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo) -> Iterator[None]:
        outcome = yield
        seconds = processor_seconds() - self._began
        if call.when == "call" and seconds > self.limit and not item.get_closest_marker("slow"):
            outcome.get_result().user_properties.append((NAME, seconds))

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        reports = [report for reports in terminalreporter.stats.values() for report in reports]
        times = {r.nodeid: dict(r.user_properties).get(NAME) for r in reports if getattr(r, "when", "") == "call"}
        long = {test: seconds for test, seconds in times.items() if seconds}
        if long:
            terminalreporter.section(f"more than {self.limit:g} s of processor time: make cheaper or mark slow")
            for test, seconds in sorted(long.items(), key=lambda pair: -pair[1]):
                terminalreporter.write_line(f"{seconds:.1f} s {test}")


def processor_seconds() -> float:
    """User and system time of this process and of its children that have been waited for, in seconds."""
    return sum(os.times()[:4])
