"""Initial weights: the same numbers everywhere, with the distributions of the original."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tf_seresnet.layers.initial_values import initial_value

CONVOLUTION = (3, 3, 64, 64)
DENSE = (256, 16)


def test_golden_numbers():
    values = initial_value("conv2d/kernel", (3, 3, 3, 16), 0).ravel()
    expected = [-0.1449660062789917, 0.39325040578842163, 0.2071267068386078, 0.3989294469356537]
    assert values[:4].tolist() == expected
    values = initial_value("dense_224/kernel", (256, 10), 0).ravel()
    expected = [-0.07243815809488297, 0.06096324324607849, -0.1450202465057373, -0.1485462188720703]
    assert values[:4].tolist() == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BatchNorm/gamma", 1),
        ("BatchNorm_3/moving_variance", 1),
        ("BatchNorm/beta", 0),
        ("conv2d_1/bias", 0),
        ("BatchNorm/moving_mean", 0),
        ("BatchNorm/BatchNorm/moving_mean/biased", 0),
    ],
)
def test_batch_norm_starts_at_one_and_zero_and_biases_at_zero(name, value):
    values = initial_value(name, (16,), 7)
    assert values.dtype == np.float32
    assert values.tolist() == [value] * 16


def test_the_zero_debias_counter_is_a_scalar():
    value = initial_value("BatchNorm/BatchNorm/moving_mean/local_step", (), 7)
    assert value.shape == ()
    assert value == 0


def test_convolutions_are_he_normal_truncated_at_two_deviations():
    values = initial_value("conv2d_5/kernel", CONVOLUTION, 1)
    deviation = math.sqrt(2 / (3 * 3 * 64))
    assert values.dtype == np.float32
    assert values.shape == CONVOLUTION
    assert values.std() == pytest.approx(deviation, rel=0.02)
    assert abs(values.mean()) < 0.02 * deviation
    # Truncated at two deviations of the underlying normal, which is wider than the truncated one.
    limit = 2 * deviation / 0.87962566
    assert 0.99 * limit < np.abs(values).max() <= limit * (1 + 1e-6)


def test_dense_layers_are_glorot_uniform():
    values = initial_value("dense_1/kernel", DENSE, 1)
    limit = math.sqrt(6 / sum(DENSE))
    assert values.dtype == np.float32
    assert 0.99 * limit < np.abs(values).max() <= limit * (1 + 1e-6)
    assert values.std() == pytest.approx(limit / math.sqrt(3), rel=0.03)


@given(st.integers(0, 2**32 - 1))
def test_a_value_depends_on_name_shape_and_seed_alone(seed):
    first = initial_value("conv2d/kernel", (1, 1, 3, 4), seed)
    np.random.seed(0)
    initial_value("conv2d_1/kernel", (1, 1, 3, 4), seed)
    assert np.array_equal(initial_value("conv2d/kernel", [1, 1, 3, 4], seed), first)
    assert not np.array_equal(initial_value("conv2d_1/kernel", (1, 1, 3, 4), seed), first)
    assert not np.array_equal(initial_value("conv2d/kernel", (1, 1, 3, 4), (seed + 1) % 2**32), first)


@pytest.mark.parametrize(
    ("name", "shape"), [("conv2d/weights", (3, 3, 3, 16)), ("dense/kernel", (3,)), ("Momentum", (1,)), ("kernel", ())]
)
def test_a_variable_that_the_networks_do_not_have_is_a_defect(name, shape):
    with pytest.raises(ValueError, match="no initial value"):
        initial_value(name, shape, 0)
