"""Hostile files and words: nothing in them is executed, nothing is written outside the output folder."""

from __future__ import annotations

from tests.faults import hostile_folders, hostile_launchers, hostile_pickles

CASES = [*hostile_pickles.CASES, *hostile_folders.CASES, *hostile_launchers.CASES]
