"""The loss curve of several steps: whether it stays as close to the reference's as rounding lets it."""

from __future__ import annotations

import math
from typing import List, Sequence

from shared.port_check.findings import Check
from shared.port_check.tolerance import FALSE_ALARM, UNIT_ROUNDOFF

ROUNDED_RUNS = 3


def loss_checks(side: Sequence[float], reference: Sequence[float], rounded: Sequence[Sequence[float]]) -> List[Check]:
    """One check for each step; `rounded` has the losses of `ROUNDED_RUNS` runs that round in different ways.

    Errors of a step go into all later ones and grow there, so no bound is known beforehand. The deviations of the
    rounded runs from the reference give their scale. The ratio of one more such error to the root mean square of three
    has Student's distribution with three degrees of freedom, whose quantile is the tolerance.
    """
    factor, scale, checks = quantile(FALSE_ALARM / len(side)), 0.0, []
    for step, (observed, expected, *near) in enumerate(zip(side, reference, *rounded), 1):
        deviation = math.sqrt(sum((value - expected) ** 2 for value in near) / len(near))
        scale = max(scale, deviation, UNIT_ROUNDOFF["float32"] * abs(expected))
        error = abs(observed - expected)
        units = error / (factor * scale) if math.isfinite(observed) else math.inf
        if not math.isfinite(expected):
            units = 0.0
        relative = error / abs(expected) if expected else error
        worst = f"{observed:.7g} where {expected:.7g} is right, in step {step}"
        checks.append(
            Check("loss curve", "", f"loss of step {step}", "the training loss", float(units), float(relative), worst)
        )
    return checks


def quantile(probability: float) -> float:
    """What the magnitude of Student's t with three degrees of freedom exceeds with this probability, by bisection."""
    low, high = 0.0, 1e6
    for _ in range(100):
        middle = (low + high) / 2
        x = middle / math.sqrt(3)
        exceeds = 1 - 2 / math.pi * (x / (1 + x * x) + math.atan(x))
        low, high = (middle, high) if exceeds > probability else (low, middle)
    return high
