"""What the comparison of one value says, and what all of them say together."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence

import numpy as np

from shared.port_check.tolerance import LARGEST

STAGES = ("weights", "forward", "loss", "backward", "statistics", "exchange", "update", "compiled", "loss curve")


@dataclass(frozen=True)
class Check:
    """One tensor of the side beside the reference's, computed from the side's own operands.

    `units` is the largest error in units of what rounding explains; more than 1 is out of tolerance. `relative_error`
    is the norm of the error over that of the expected values. `worst` describes the value with the largest error.
    """

    stage: str  # one of STAGES
    layer: str  # "layer1.0.conv1"; "" for the whole network
    quantity: str  # "output", "input gradient", "weight", ...
    text: str  # what the layer computes
    units: float
    relative_error: float
    worst: str
    hint: str = ""

    @property
    def agrees(self) -> bool:
        """Whether rounding explains the error."""
        return bool(self.units <= 1)

    def to_json(self) -> Dict[str, Any]:
        """For port.json; an infinite number of units is written as null."""
        finite = math.isfinite(self.units)
        return {**self.__dict__, "units": self.units if finite else None, "agrees": self.agrees}


def compare(
    stage: str,
    layer: str,
    quantity: str,
    text: str,
    expected: np.ndarray,
    observed: np.ndarray,
    bound: np.ndarray,
    dtype: str = "float32",
) -> Check:
    """Compare two arrays of one shape within an elementwise bound; another shape is out of every tolerance.

    Where both are not finite, alike, an earlier layer is the cause and the value agrees.
    """
    if expected.shape != observed.shape:
        shapes = f"shape {list(observed.shape)} where the reference has {list(expected.shape)}"
        return Check(stage, layer, quantity, text, float("inf"), float("inf"), shapes, "another shape")
    expected, observed = expected.astype(np.float64), observed.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        error = np.abs(observed - expected)
        units = np.where(error == 0, 0.0, error / np.broadcast_to(bound, error.shape))
    usable = np.isfinite(expected)
    units = np.where(usable, np.where(np.isfinite(observed), units, np.inf), 0.0).ravel()
    if not units.size:
        return Check(stage, layer, quantity, text, 0.0, 0.0, "")
    at = int(np.argmax(units))
    index = [int(number) for number in np.unravel_index(at, expected.shape)]
    worst = f"{observed.ravel()[at]:.7g} where {expected.ravel()[at]:.7g} is right, at {index}"
    norm, difference = float(np.linalg.norm(expected[usable])), float(np.linalg.norm(error[usable]))
    relative = difference / norm if norm else (0.0 if not difference else float("inf"))
    relative = relative if math.isfinite(relative) else float("inf")
    hint = _hint(expected, observed, units, dtype) if units[at] > 1 else ""
    return Check(stage, layer, quantity, text, float(units[at]), relative, worst, hint)


def _hint(expected: np.ndarray, observed: np.ndarray, units: np.ndarray, dtype: str) -> str:
    """What a wrong value looks like, where it looks like something common."""
    out = int((units > 1).sum())
    finite = np.isfinite(observed)
    if not finite.all():
        largest = float(np.abs(expected[np.isfinite(expected)]).max(initial=0.0))
        if largest > LARGEST[dtype]:
            return f"overflow: the largest value is {largest:.4g}, {dtype} ends at {LARGEST[dtype]:.5g}"
        return f"{int((~finite).sum())} values are not finite"
    power = float((expected * expected).sum())
    if power:
        factor = float((expected * observed).sum()) / power
        rest = float(np.linalg.norm(observed - factor * expected)) / np.sqrt(power)
        if abs(factor - 1) > 1e-3 and factor and rest < 1e-2 * abs(factor - 1):
            return f"all values are {factor:.5g} times the right ones"
    if out <= max(1, units.size // 100):
        return f"{out} of {units.size} values differ"
    if expected.ndim == 4:
        for name, other in (
            ("the channels are in reverse order", expected[:, ::-1]),
            ("the channels are in reverse order", expected[..., ::-1]),
            ("height and width are exchanged", expected.swapaxes(2, 3)),
            ("height and width are exchanged", expected.swapaxes(1, 2)),
            ("height and width are exchanged", expected.swapaxes(0, 1)),  # a kernel of TensorFlow's
        ):
            if other.shape == observed.shape and np.allclose(other, observed, rtol=1e-2, atol=1e-6):
                return name
    return f"{out} of {units.size} values differ"


@dataclass(frozen=True)
class Verdict:
    """What all checks together say: `causes` are out of tolerance by themselves, in order of computation."""

    checks: Sequence[Check]
    causes: Sequence[Check]

    @property
    def agrees(self) -> bool:
        """Whether rounding explains every difference."""
        return not self.causes

    @property
    def first(self) -> Optional[Check]:
        """The first value, in order of computation, that rounding does not explain."""
        return self.causes[0] if self.causes else None

    def closest(self, count: int = 5) -> List[Check]:
        """The checks that come closest to their tolerance, or exceed it by most."""
        return sorted(self.checks, key=lambda check: -check.units)[:count]


def verdict(checks: Sequence[Check]) -> Verdict:
    """The verdict on checks that are in order of computation."""
    return Verdict(checks, [check for check in checks if not check.agrees])
