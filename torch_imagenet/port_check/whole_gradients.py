"""The gradients of a compiled step beside those of the same step recorded, which is another compiled graph."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Dict, List, Mapping, Sequence

import numpy as np

from shared.port_check.findings import Check, compare
from shared.port_check.losses import quantile
from shared.port_check.tolerance import FALSE_ALARM, HALF_SMALLEST, UNIT_ROUNDOFF
from shared.port_check.trace import Trace
from torch_imagenet.port_check.compiled import GRADIENT

Gradients = Mapping[str, np.ndarray]


def deviations(run: Gradients, reference: Gradients) -> Dict[str, float]:
    """The norm of the difference of each weight's gradient in two whole steps."""
    return {name: float(np.linalg.norm(run[name] - right)) for name, right in reference.items()}


def gradient_checks(trace: Trace, rounded: Sequence[Mapping[str, float]]) -> List[Check]:
    """One check for each weight, from the last layer to the first; none where the step was not compiled.

    `rounded` has the `deviations` of runs that round in different ways, which give the scale of what rounding does in a
    whole step. As in `losses.loss_checks`, the tolerance is a quantile of Student's t with three degrees of freedom.
    """
    scale, again = float(trace.description["loss_scale"]), trace.named(GRADIENT)
    factor, checks = math.sqrt(2) * quantile(FALSE_ALARM / max(1, len(again))), []  # of two roundings' difference
    order = {call.name: number for number, call in enumerate(trace.calls)}
    for name in sorted(again, key=lambda name: -order.get(name.rpartition(".")[0], 0)):
        layer, _, kind = name.rpartition(".")
        both = trace.tensors[f"gradient/{name}"], again[name]
        expected, observed = (value.astype(np.float64) / scale for value in both)
        size = math.sqrt(sum(run[name] ** 2 for run in rounded) / len(rounded))
        least = UNIT_ROUNDOFF["float32"] * float(np.linalg.norm(expected)) + HALF_SMALLEST["float32"]
        tolerance = factor * max(size, least)
        text = f"the gradient of {name} in the compiled step without recording"
        bound = np.array(tolerance / math.sqrt(observed.size))
        check = compare("compiled", layer, f"{kind} gradient", text, expected, observed, bound)
        error = float(np.linalg.norm(observed - expected))
        checks.append(replace(check, units=error / tolerance) if math.isfinite(error) else check)
    return checks
