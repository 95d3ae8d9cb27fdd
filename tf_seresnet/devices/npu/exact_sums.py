"""Metrics as 32-bit integers that may be added up: what an all-reduce of the devices can carry exactly.

Sums of `shared.metrics` are integers of any size, an all-reduce has int32. So each is cut into digits of 15 bits; up to
65,536 ranks can add their digits without overflow, and the digits' sums make the sum of the numbers.
"""

from __future__ import annotations

from typing import Any, Dict, List

import numpy as np

from shared.metrics import CALIBRATION_BINS, Metrics

_BITS, _DIGITS = 15, 7  # 105 bits: the loss of 2**45 images at the largest that counts
_SINGLE = ("images", "non_finite", "correct1", "correct5", "loss")


def pack(metrics: Metrics) -> np.ndarray:
    """The sums as int32 [n]; n depends on the number of classes alone."""
    state = metrics.to_state()
    numbers = [state[name] for name in _SINGLE]
    numbers += state["class_images"]
    numbers += state["bin_images"] + state["bin_correct"] + state["bin_confidence"]
    numbers += metrics.confusion.ravel().tolist()
    digits = [[number >> _BITS * digit & (1 << _BITS) - 1 for digit in range(_DIGITS)] for number in numbers]
    return np.array(digits, np.int32).ravel()


def unpack(digits: np.ndarray, num_classes: int) -> Metrics:
    """The metrics of what `pack` gave, or of the sum of several of these, int32 [n].

    Raises ValueError where the counts contradict each other.
    """
    rows = digits.reshape(-1, _DIGITS).tolist()
    numbers = [sum(value << _BITS * digit for digit, value in enumerate(row)) for row in rows]
    state: Dict[str, Any] = {"num_classes": num_classes, **dict(zip(_SINGLE, numbers))}
    rest = numbers[len(_SINGLE) :]
    for name, count in (
        ("class_images", num_classes),
        ("bin_images", CALIBRATION_BINS),
        ("bin_correct", CALIBRATION_BINS),
        ("bin_confidence", CALIBRATION_BINS),
    ):
        state[name], rest = rest[:count], rest[count:]
    state["confusion"] = _cells(rest, num_classes)
    return Metrics.from_state(state)


def _cells(counts: List[int], num_classes: int) -> List[List[int]]:
    return [[*divmod(position, num_classes), count] for position, count in enumerate(counts) if count]
