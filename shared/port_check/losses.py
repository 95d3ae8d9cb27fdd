"""The loss curve of several steps: whether it stays as close to the reference's as rounding lets it."""

from __future__ import annotations

import math
from typing import List, Sequence

from shared.port_check.findings import Check
from shared.port_check.tolerance import FALSE_ALARM, UNIT_ROUNDOFF


def loss_checks(side: Sequence[float], reference: Sequence[float], rounded: Sequence[float]) -> List[Check]:
    """One check for each step.

    Errors of a step go into all later ones and grow there, so no bound is known beforehand. The reference with rounded
    results shows how large they are: the scale of a random error of mean zero, which is exceeded by the factor
    sqrt(2 log(2 / p)) with probability p at most (the tail of a sub-Gaussian variable).
    """
    factor = math.sqrt(2 * math.log(2 * len(side) / FALSE_ALARM))
    scale, checks = 0.0, []
    for step, (observed, expected, near) in enumerate(zip(side, reference, rounded), 1):
        scale = max(scale, abs(near - expected), 4 * UNIT_ROUNDOFF["float32"] * abs(expected))
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
