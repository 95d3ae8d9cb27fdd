"""How far rounding alone can move a value: bounds from the precision and the number of terms, none picked by hand.

A sum of K products computed in floating point with unit roundoff u differs from the exact one by at most
lambda * sqrt(K) * u * sum |a_i b_i|, whatever the order of the summation, except with probability
2 K exp(-lambda^2 / 2) (Higham and Mary, "A new approach to probabilistic rounding error analysis", SIAM J. Sci. Comput.
41, 2019, theorem 3.1). Lambda follows from the number of sums and the probability of a false alarm that is accepted for
a whole tensor, `FALSE_ALARM`. All arrays here are float64 unless said otherwise.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Optional, Tuple

import numpy as np

FALSE_ALARM = 1e-6
# The largest relative error of rounding to nearest, and half the smallest positive number, below which it is absolute.
UNIT_ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
HALF_SMALLEST = {"float64": 2.0**-1075, "float32": 2.0**-150, "float16": 2.0**-25, "bfloat16": 2.0**-134}
# The same of what some devices multiply float32 in: its exponent, and 10 bits of it (NVIDIA's TF32) or 11 (Ascend's
# HF32). How they round is not documented, so truncation is allowed. Sums of these products stay in float32.
PRODUCT_ROUNDOFF = {"tf32": 2.0**-10, "hf32": 2.0**-11}
LARGEST = {"float64": 1.7976931348623157e308, "float32": 3.4028235e38, "float16": 65504.0, "bfloat16": 3.3895314e38}


class Rounding(NamedTuple):
    """How a value was computed: sums of `length` terms in `accumulated`, stored `stores` times in `stored`.

    `operands`, of `PRODUCT_ROUNDOFF`, is what both factors of every term are rounded to before; "" where they are not.
    """

    stored: str
    accumulated: str = "float32"
    length: int = 1
    stores: int = 1
    operands: str = ""


def growth(length: int, sums: int, dtype: str) -> float:
    """lambda * sqrt(length) * u: the relative error, to the sum of magnitudes, of `sums` sums of `length` terms."""
    return confidence(max(length, 1) * max(sums, 1)) * math.sqrt(length) * UNIT_ROUNDOFF[dtype]


def confidence(roundings: int) -> float:
    """lambda: none of so many roundings, or of their sums, is further off, except with probability `FALSE_ALARM`."""
    return math.sqrt(2 * math.log(2 * roundings / FALSE_ALARM))


def bound(expected: np.ndarray, magnitude: np.ndarray, rounding: Rounding) -> np.ndarray:
    """The largest error of each value that rounding explains, the shape of `expected`.

    `magnitude` is what the same computation gives with every operand replaced by its absolute value. Every store but
    the last rounds an intermediate value, which is no larger than `magnitude`.
    """
    unit = UNIT_ROUNDOFF[rounding.stored]
    inner = growth(rounding.length, expected.size, rounding.accumulated) if rounding.length > 1 else 0.0
    inner += (rounding.stores - 1) * unit + 2 * PRODUCT_ROUNDOFF.get(rounding.operands, 0.0)
    return (
        (unit + UNIT_ROUNDOFF[rounding.accumulated]) * np.abs(expected)
        + inner * magnitude
        + rounding.stores * HALF_SMALLEST[rounding.stored]
    )


def update_bound(expected: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """The largest error of float32 weights after an update, both arguments of their shape.

    `moved` is the sum of the magnitudes of the update's terms, none of whose products and sums is larger.
    """
    return UNIT_ROUNDOFF["float32"] * (2 * np.abs(expected) + 6 * np.abs(moved)) + HALF_SMALLEST["float32"]


class BatchNormBounds(NamedTuple):
    """The largest errors that rounding explains, by quantity."""

    output: np.ndarray  # [B, C, H, W]
    input_gradient: np.ndarray  # [B, C, H, W]
    scale_gradient: np.ndarray  # [C]
    shift_gradient: np.ndarray  # [C]
    mean: np.ndarray  # [C], of the batch
    variance: np.ndarray  # [C]


@np.errstate(invalid="ignore", over="ignore")  # of an overflow on the side
def batch_norm_bounds(
    x: np.ndarray,
    scale: np.ndarray,
    shift: np.ndarray,
    epsilon: float,
    gradient: np.ndarray,
    stored: str,
    given: Optional[np.ndarray] = None,
) -> BatchNormBounds:
    """Bounds of batch normalisation in training, x and `gradient` [B, C, H, W], scale and shift [C].

    x is exact, and so is `gradient`, unless `given` has the largest error of each of its values.

    The statistics are sums of n = B H W terms in float32, the variance the mean of squares less the square of the mean,
    the least accurate form in use; the rest is first-order error propagation through
    y = scale (x - mean) / sqrt(variance + epsilon) + shift and its derivative (Ioffe and Szegedy, arXiv 1502.03167).
    """
    given = np.zeros_like(x) if given is None else given
    axes: Tuple[int, ...] = (0, 2, 3)
    length = x.size // x.shape[1]
    unit, sums = UNIT_ROUNDOFF["float32"], growth(length, x.shape[1], "float32")

    def wide(values: np.ndarray) -> np.ndarray:
        return values[None, :, None, None]

    mean, variance = x.mean(axis=axes), x.var(axis=axes)
    deviation = np.sqrt(variance + epsilon)
    normal = (x - wide(mean)) / wide(deviation)
    mean_error = sums * np.abs(x).mean(axis=axes)
    variance_error = sums * (x**2).mean(axis=axes) + 2 * np.abs(mean) * mean_error
    relative = variance_error / (2 * deviation**2) + 4 * unit  # of 1 / deviation
    normal_error = wide(mean_error / deviation) + np.abs(normal) * wide(relative)
    product = np.abs(wide(scale) * normal)
    output = np.abs(wide(scale)) * normal_error + 4 * unit * (product + wide(np.abs(shift)))
    y = wide(scale) * normal + wide(shift)
    output += UNIT_ROUNDOFF[stored] * np.abs(y) + HALF_SMALLEST[stored]

    size = np.abs(gradient)
    together = confidence(
        x.size
    )  # times the root of the sum of squares: of errors that have nothing to do with another
    shift_error = sums * size.sum(axis=axes) + together * np.sqrt((given**2).sum(axis=axes))
    scale_error = sums * (size * np.abs(normal)).sum(axis=axes) + (size * normal_error).sum(axis=axes)
    scale_error += together * np.sqrt(((given * normal) ** 2).sum(axis=axes))
    centred = gradient - wide(gradient.mean(axis=axes)) - normal * wide((gradient * normal).mean(axis=axes))
    factor = wide(np.abs(scale) / deviation)
    inner = (
        wide(shift_error / length)
        + np.abs(normal) * wide(scale_error / length)
        + normal_error * wide(np.abs((gradient * normal).mean(axis=axes)))
        + given
        + 4 * unit * (size + np.abs(gradient - centred))
    )
    exact = factor * np.abs(centred)
    input_error = factor * inner + exact * (wide(relative) + UNIT_ROUNDOFF[stored]) + HALF_SMALLEST[stored]
    return BatchNormBounds(output, input_error, scale_error, shift_error, mean_error, variance_error)
