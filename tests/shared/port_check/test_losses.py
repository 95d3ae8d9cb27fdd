"""The tolerance of a loss curve: what three runs that round otherwise show, by Student's distribution."""

from __future__ import annotations

import math

import numpy as np
import pytest

from shared.port_check.losses import loss_checks, quantile


@pytest.mark.parametrize(("probability", "value"), [(0.05, 3.18245), (0.01, 5.84091), (0.001, 12.92398)])
def test_thequantiles_are_those_of_the_tables(probability, value):
    assert quantile(probability) == pytest.approx(value, abs=1e-4)


def test_random_errors_of_one_size_are_no_finding():
    random = np.random.RandomState(0)
    for _ in range(2000):
        side, *rounded = random.normal(0, 1e-4, (4, 3)) + 2.0
        assert all(check.agrees for check in loss_checks(side, [2.0] * 3, rounded))


def test_an_error_far_beyond_them_is_one():
    rounded = [[2.0 + 1e-6], [2.0 - 1e-6], [2.0 + 1e-6]]
    (check,) = loss_checks([2.01], [2.0], rounded)
    assert not check.agrees
    assert check.relative_error == pytest.approx(0.005)
    (lost,) = loss_checks([math.nan], [2.0], rounded)
    assert lost.units == math.inf
