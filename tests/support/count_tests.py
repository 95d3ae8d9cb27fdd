"""Prints `N passed, M failed, K skipped` from pytest's JUnit XML report; fails if it has no test suite."""

from __future__ import annotations

import sys
from xml.etree import ElementTree


def count(path: str) -> tuple[int, int, int]:
    """Numbers of tests (passed, failed or in error, skipped) over all suites of a report."""
    suites = list(ElementTree.parse(path).getroot().iter("testsuite"))
    if not suites:
        raise ValueError("no test suite in " + path)
    total, failed, skipped = (
        sum(int(suite.get(key, "0")) for suite in suites for key in keys)
        for keys in (("tests",), ("failures", "errors"), ("skipped",))
    )
    return max(0, total - failed - skipped), failed, skipped


if __name__ == "__main__":
    print("%d passed, %d failed, %d skipped" % count(sys.argv[1]))
