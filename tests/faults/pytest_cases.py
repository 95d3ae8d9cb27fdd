"""The short form: one round of each case, as a test."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from tests.faults.case import TORCH, Case, halves_here, one_round


def short_form(module: str) -> Any:
    """The test of a module's cases, to be called `test_...` in a file of its own (files are what runs in parallel).

    None, which pytest does not collect, where the halves that this Python runs have none.
    """
    cases = [
        case
        for case in importlib.import_module(f"tests.faults.cases.{module}").CASES
        if case.half in halves_here() and case.short
    ]
    if not cases:
        return None
    if TORCH in halves_here():
        importlib.import_module("torch._dynamo")  # the first optimizer loads it, in seconds that a case would pay for

    marked = [
        pytest.param(case, id=case.name.replace(" ", "-"), marks=[pytest.mark.slow] * case.slow) for case in cases
    ]

    @pytest.mark.parametrize("case", marked)
    def test(case: Case, tmp_path: Path) -> None:
        lost = one_round(case, 0, tmp_path / "round")
        assert not lost, lost

    return test
