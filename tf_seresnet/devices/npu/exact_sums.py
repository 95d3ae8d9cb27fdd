"""Metrics as int32 arrays whose elementwise sum is exact, for an all-reduce over the ranks.

The sums in `shared.metrics` are integers of any size, and an all-reduce has int32. So each integer is split into digits
of 15 bits: up to 65,536 ranks can add digits without overflow, and the summed digits give the sum of the integers.
"""

from __future__ import annotations

from typing import Any, Dict

import numpy as np

from shared.metrics import CALIBRATION_BINS, Metrics

_BITS, _DIGITS = 15, 7  # 105 bits: the loss of 2**45 images at its upper limit
_SCALARS = ("images", "non_finite", "correct1", "correct5", "loss")


def pack(metrics: Metrics) -> np.ndarray:
    """The sums as int32 [n], where n depends on the number of classes only."""
    state = metrics.to_state()
    integers = [state[name] for name in _SCALARS]
    integers += state["class_images"]
    integers += state["bin_images"] + state["bin_correct"] + state["bin_confidence"]
    integers += metrics.confusion.ravel().tolist()
    digits = [[integer >> _BITS * digit & (1 << _BITS) - 1 for digit in range(_DIGITS)] for integer in integers]
    return np.array(digits, np.int32).ravel()


def unpack(digits: np.ndarray, num_classes: int) -> Metrics:
    """The metrics of an array of `pack`, or of the sum of several, int32 [n].

    Raises ValueError if the counts contradict each other.
    """
    rows = digits.reshape(-1, _DIGITS).tolist()
    integers = [sum(value << _BITS * digit for digit, value in enumerate(row)) for row in rows]
    state: Dict[str, Any] = {"num_classes": num_classes, **dict(zip(_SCALARS, integers))}
    rest = integers[len(_SCALARS) :]
    for name, count in (
        ("class_images", num_classes),
        ("bin_images", CALIBRATION_BINS),
        ("bin_correct", CALIBRATION_BINS),
        ("bin_confidence", CALIBRATION_BINS),
    ):
        state[name], rest = rest[:count], rest[count:]
    state["confusion"] = [[*divmod(position, num_classes), count] for position, count in enumerate(rest) if count]
    return Metrics.from_state(state)
