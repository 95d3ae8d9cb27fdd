"""Twenty steps of each network's training give the losses that they gave when golden/twenty_steps.json was written."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests.torch_imagenet.golden import twenty_steps  # noqa: E402

GOLDEN = json.loads(twenty_steps.FILE.read_text())


def _apart(name: str, rate: float, steps: int) -> float:
    found = twenty_steps.losses(name, rate, steps)
    assert len(found) == steps
    return float(np.abs(np.subtract(found, GOLDEN[name][:steps])).max())


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(twenty_steps.RATES))
def test_twenty_steps(name):
    assert len(GOLDEN[name]) == twenty_steps.STEPS
    assert GOLDEN[name][-1] < GOLDEN[name][0] - 0.1  # it learns
    assert _apart(name, twenty_steps.RATES[name], twenty_steps.STEPS) < twenty_steps.TOLERANCE


@pytest.mark.parametrize(("factor", "equal"), [(1.0, True), (1.001, False)])
def test_the_first_steps_notice_another_rate(factor, equal):
    apart = _apart("se_resnet50", factor * twenty_steps.RATES["se_resnet50"], 3)
    assert (apart < twenty_steps.TOLERANCE) == equal
