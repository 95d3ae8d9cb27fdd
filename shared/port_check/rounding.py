"""Rounding to the floating-point types that NumPy has, and to bfloat16, which it has not."""

from __future__ import annotations

import numpy as np

_TYPES = {"float64": np.float64, "float32": np.float32, "float16": np.float16}


def rounded(values: np.ndarray, dtype: str) -> np.ndarray:
    """The values, float64, each rounded to the nearest number of `dtype`, ties to even; too large ones are infinite."""
    with np.errstate(over="ignore"):
        if dtype != "bfloat16":
            return values.astype(_TYPES[dtype]).astype(np.float64)
        # The upper half of a float32, rounded by carrying into it. Rounding twice matters only at a tie of the first.
        bits = values.astype(np.float32).view(np.uint32)
        even = (bits >> np.uint32(16)) & np.uint32(1)
        upper = (bits + np.uint32(0x7FFF) + even) & np.uint32(0xFFFF0000)
        result = upper.view(np.float32).astype(np.float64)
    return np.where(np.isfinite(values), result, values)
