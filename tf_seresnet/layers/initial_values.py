"""Initial weights as a pure function of (seed, variable name, shape).

Every layer set and every TensorFlow version starts from the same numbers, so that runs can be compared from the first
step on, and the graph carries no random operators. The distributions are the original's: He normal for convolutions,
Glorot uniform for dense layers (both as Keras defines them), BN at 1 and 0, biases at 0.
"""

from __future__ import annotations

import math
import zlib
from typing import Sequence

import numpy as np

# Standard deviation of a unit normal cut at two standard deviations: what Keras divides by so that the cut
# distribution has the variance that was asked for (keras VarianceScaling, "truncated_normal").
_TRUNCATED_STD = 0.87962566103423978


def initial_value(name: str, shape: Sequence[int], seed: int) -> np.ndarray:
    """Float32 initial value of the variable `name`, for example "conv2d_3/kernel" or "BatchNorm/gamma".

    RandomState's stream is frozen across NumPy releases (NEP 19), unlike Generator's.
    Raises ValueError for a variable that the networks do not have.
    """
    kind = name.rsplit("/", 1)[-1]
    if kind in ("gamma", "moving_variance"):
        return np.ones(shape, np.float32)
    if kind in ("beta", "bias", "moving_mean", "biased", "local_step"):
        return np.zeros(shape, np.float32)
    random = np.random.RandomState([seed % 2**32, zlib.crc32(name.encode("ascii"))])
    if kind == "kernel" and len(shape) == 4:
        return _he_normal(random, shape)
    if kind == "kernel" and len(shape) == 2:
        limit = math.sqrt(6.0 / (shape[0] + shape[1]))
        return random.uniform(-limit, limit, shape).astype(np.float32)
    raise ValueError(f"no initial value is defined for {name} {tuple(shape)}")


def _he_normal(random: np.random.RandomState, shape: Sequence[int]) -> np.ndarray:
    """Normal of variance 2 / fan_in, cut at two standard deviations by drawing again."""
    values = random.standard_normal(shape)
    outside = np.abs(values) > 2
    while outside.any():
        values[outside] = random.standard_normal(int(outside.sum()))
        outside = np.abs(values) > 2
    fan_in = shape[0] * shape[1] * shape[2]
    return (values * (math.sqrt(2.0 / fan_in) / _TRUNCATED_STD)).astype(np.float32)
