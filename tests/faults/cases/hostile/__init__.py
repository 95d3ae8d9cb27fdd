"""Hostile files and arguments: nothing in them is executed, nothing is written outside the output folder."""

from __future__ import annotations

from tests.faults.cases.hostile import folders, launchers, pickles

CASES = [*pickles.CASES, *folders.CASES, *launchers.CASES]
