"""Rounding to the upper bits of a float32 against numbers worked out by hand, to the other types against NumPy's."""

from __future__ import annotations

import numpy as np
import pytest

from shared.port_check.rounding import rounded


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1.0, 1.0),
        (1 + 2.0**-8, 1.0),  # a tie goes to the even neighbour, here down
        (1 + 3 * 2.0**-8, 1 + 2.0**-6),  # and here up
        (1 + 2.0**-8 + 2.0**-20, 1 + 2.0**-7),
        (-(1 + 2.0**-8 + 2.0**-20), -(1 + 2.0**-7)),
        (255.6, 256.0),  # the carry goes into the exponent
        (3.4e38, np.inf),  # above the largest, 3.3895e38, by more than half a unit
        (-np.inf, -np.inf),
        (0.0, 0.0),
    ],
)
def test_bfloat16(value, expected):
    assert rounded(np.array(value), "bfloat16") == expected


@pytest.mark.parametrize(("dtype", "bits"), [("tf32", 10), ("hf32", 11)])
def test_the_formats_of_factors(dtype, bits):
    unit = 2.0**-bits
    values = np.array([1 + unit, 1 + 0.5 * unit, 1 + 1.5 * unit, 1 + 0.51 * unit, -(1 + 0.51 * unit), 1e-30, 1e30])
    found = rounded(values, dtype)
    assert np.array_equal(found[:5], [1 + unit, 1, 1 + 2 * unit, 1 + unit, -(1 + unit)])
    assert np.allclose(found[5:], values[5:], rtol=unit)


def test_what_is_no_number_stays_none():
    assert np.isnan(rounded(np.array([np.nan]), "bfloat16")).all()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_types_that_numpy_has(dtype):
    values = np.random.RandomState(0).standard_normal(100)
    assert np.array_equal(rounded(values, dtype), values.astype(dtype).astype(np.float64))
    assert np.array_equal(rounded(rounded(values, dtype), dtype), rounded(values, dtype))
    assert rounded(np.array([1e6]), "float16")[0] == np.inf
