"""One round of each quick case as a test."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from tests.faults.case import TORCH, Case, halves_here, run_round


def quick_test(module: str) -> Any:
    """A test over a module's quick cases, to be named `test_...` in its own file, because files run in parallel.

    None, which pytest does not collect, if this Python runs none of them.
    """
    cases = [
        case
        for case in importlib.import_module(f"tests.faults.cases.{module}").CASES
        if case.half in halves_here() and case.quick
    ]
    if not cases:
        return None
    if TORCH in halves_here():
        importlib.import_module("torch._dynamo")  # the first optimizer loads it, which takes seconds

    marked = [
        pytest.param(case, id=case.name.replace(" ", "-"), marks=[pytest.mark.slow] * case.slow) for case in cases
    ]

    @pytest.mark.parametrize("case", marked)
    def test(case: Case, tmp_path: Path) -> None:
        loss = run_round(case, 0, tmp_path / "round")
        assert not loss, loss

    return test
