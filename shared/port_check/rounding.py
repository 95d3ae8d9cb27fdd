"""Rounding to the floating-point types that NumPy has, and to those that are the upper bits of a float32."""

from __future__ import annotations

import numpy as np

DROPPED_BITS = {"hf32": 12, "tf32": 13, "bfloat16": 16}  # of the mantissa of a float32
_TYPES = {"float64": np.float64, "float32": np.float32, "float16": np.float16}


def rounded(values: np.ndarray, dtype: str) -> np.ndarray:
    """The values, float64, each rounded to the nearest number of `dtype`, ties to even; too large ones are infinite."""
    with np.errstate(over="ignore"):
        if dtype not in DROPPED_BITS:
            return values.astype(_TYPES[dtype]).astype(np.float64)
        # The upper bits of a float32, rounded by carrying into them. Rounding twice matters only at a tie of the first.
        bits, dropped = values.astype(np.float32).view(np.uint32), DROPPED_BITS[dtype]
        even = (bits >> np.uint32(dropped)) & np.uint32(1)
        upper = (bits + np.uint32((1 << (dropped - 1)) - 1) + even) & np.uint32(0x100000000 - (1 << dropped))
        result = upper.view(np.float32).astype(np.float64)
    return np.where(np.isfinite(values), result, values)
