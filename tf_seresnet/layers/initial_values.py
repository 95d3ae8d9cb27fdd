"""Initial weights as a pure function of (seed, variable name, shape).

Every layer set and every TensorFlow version starts from the same numbers, so that runs are comparable from the first
step, and the graph holds no random operators. The distributions are the original's: He normal for convolutions (He et
al., arXiv 1502.01852) and Glorot uniform for dense layers (Glorot and Bengio, 2010), both as Keras defines them; batch
normalisation starts at scale 1 and shift 0, biases start at 0.
"""

from __future__ import annotations

import math
import zlib
from typing import Sequence

import numpy as np

# Standard deviation of the unit normal truncated at two standard deviations. Keras divides by it so that the truncated
# distribution has the intended variance (keras VarianceScaling, "truncated_normal").
_TRUNCATED_STD = 0.87962566103423978


def initial_value(name: str, shape: Sequence[int], seed: int) -> np.ndarray:
    """Float32 initial value of the variable `name`, for example "conv2d_3/kernel" or "BatchNorm/gamma".

    RandomState's stream is frozen across NumPy releases (NEP 19), Generator's is not. Raises ValueError for a variable
    that the networks do not have.
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
    """Normal of variance 2 / fan_in, truncated at two standard deviations by redrawing."""
    values = random.standard_normal(shape)
    outside = np.abs(values) > 2
    while outside.any():
        values[outside] = random.standard_normal(int(outside.sum()))
        outside = np.abs(values) > 2
    fan_in = shape[0] * shape[1] * shape[2]
    return (values * (math.sqrt(2.0 / fan_in) / _TRUNCATED_STD)).astype(np.float32)
