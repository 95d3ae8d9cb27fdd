"""Rows of benchmarks/run.py, run whole at the smallest sizes by the Python of the test."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks import run


def run_rows(records: Path, *names: str) -> None:
    """Measure these rows once each, which must succeed; their records go to this folder."""
    words = ["--tiny", "--rounds", "1", "--python", sys.executable, "--records", str(records), "--only", *names]
    assert run.main(words) == 0
