"""The derivatives of the reference's layers against differences of their results."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from tf_seresnet.port_check import operations

RANDOM = np.random.RandomState(0)
X, KERNEL = RANDOM.standard_normal((2, 5, 6, 3)), RANDOM.standard_normal((3, 3, 3, 4))
CASES = {
    "conv": (operations.conv, {"x": X, "kernel": KERNEL, "bias": RANDOM.standard_normal(4)}),
    "conv, stride 2": (functools.partial(operations.conv, strides=2), {"x": X, "kernel": KERNEL}),
    "conv 1x1, stride 2": (functools.partial(operations.conv, strides=2), {"x": X, "kernel": KERNEL[:1, :1]}),
    "batch_norm": (
        functools.partial(operations.batch_norm, epsilon=1e-3),
        {"x": X, "gamma": RANDOM.standard_normal(3), "beta": RANDOM.standard_normal(3)},
    ),
    "dense": (operations.dense, {"x": RANDOM.standard_normal((2, 3)), "kernel": RANDOM.standard_normal((3, 4))}),
    "global_average_pool": (operations.global_average_pool, {"x": X}),
    "relu": (operations.relu, {"x": X}),
    "gate": (operations.gate, {"x": X, "excitation": RANDOM.standard_normal((2, 3)) * 3}),
    "add": (operations.add, {"x": X, "y": RANDOM.standard_normal(X.shape)}),
    "shortcut": (functools.partial(operations.shortcut, filters=6, strides=2), {"x": X}),
    "cross_entropy": (
        functools.partial(operations.cross_entropy, labels=np.array([3, 1])),
        {"logits": RANDOM.standard_normal((2, 4))},
    ),
}


@pytest.mark.parametrize("name", list(CASES))
def test_derivatives(name):
    function, operands = CASES[name]
    operation = function(**operands)
    gradient = np.random.RandomState(1).standard_normal(np.shape(operation.output))
    found = operation.backward(gradient)
    assert set(operands) <= set(found)
    for operand, value in operands.items():
        direction, step = np.random.RandomState(2).standard_normal(value.shape), 1e-6
        ahead, behind = (function(**dict(operands, **{operand: value + s * direction})) for s in (step, -step))
        difference = ((ahead.output - behind.output) * gradient).sum() / (2 * step)
        assert (found[operand] * direction).sum() == pytest.approx(difference, rel=1e-6, abs=1e-8)


def test_the_padding_of_a_stride_is_tensorflows():
    """'SAME' at stride 2: of an even side nothing is added in front, of an odd side one row."""
    kernel = np.zeros((3, 3, 1, 1))
    kernel[0, 0] = 1  # picks the first pixel of a window
    for side, first in ((6, 1.0), (5, 0.0)):
        assert operations.conv(np.ones((1, side, side, 1)), kernel, strides=2).output[0, 0, 0, 0] == first
