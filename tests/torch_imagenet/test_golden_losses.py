"""A training of each network gives the losses that it gave when golden/twenty_steps.json was written."""

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
@pytest.mark.parametrize(("name", "steps"), [("se_resnet50", 20), ("senet154", 8), ("pnasnet5large", 8)])
def test_the_losses_of_a_training(name, steps):
    """A step of the large networks takes two seconds."""
    assert len(GOLDEN[name]) == twenty_steps.STEPS
    assert GOLDEN[name][-1] < GOLDEN[name][0] - 0.1  # it learns
    assert _apart(name, twenty_steps.RATES[name], steps) < twenty_steps.TOLERANCE


@pytest.mark.parametrize(("factor", "equal"), [(1.0, True), (1.001, False)])
def test_the_first_steps_notice_another_rate(factor, equal):
    apart = _apart("se_resnet50", factor * twenty_steps.RATES["se_resnet50"], 3)
    assert (apart < twenty_steps.TOLERANCE) == equal
