"""The comparison for people and programs: lines for the log, and port.json."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from shared.port_check.findings import STAGES, Check, Verdict
from shared.port_check.trace import Trace
from shared.run.log import RunLog
from shared.system.atomic_files import write_atomic

FILE = "port.json"
SCHEMA = 1
DIFFERS = 3  # the exit status where rounding does not explain a difference
ROWS = 12  # causes that the console shows


@dataclass(frozen=True)
class LayerError:
    """Relative errors of one layer in a whole run, those of earlier layers included: norm of error over norm of value.

    `rounded` is the reference with every layer's result rounded to the side's precision: what rounding alone does.
    """

    layer: str
    forward: Optional[float]
    forward_rounded: Optional[float]
    backward: Optional[float]
    backward_rounded: Optional[float]


class Comparison(NamedTuple):
    """What a trace is beside the reference."""

    verdict: Verdict
    by_depth: Sequence[LayerError]
    losses: Mapping[str, Sequence[float]]  # "side", "reference" and "rounded", of each step


def error_by_depth(
    trace: Trace, reference: Mapping[str, np.ndarray], rounded: Mapping[str, np.ndarray]
) -> List[LayerError]:
    """How far the side's step and the rounded one are from the reference's, layer by layer, forward and backward.

    `reference` and `rounded` have the values of their own runs, float64 or float32, under the keys of the trace.
    """
    scale, errors = float(trace.description["loss_scale"]), []
    for call in trace.calls:
        row: List[Optional[float]] = []
        for quantity, factor in (("output", 1.0), ("output gradient", scale)):
            key = call.key(quantity)
            right, side = reference.get(key), trace.tensors.get(key)
            if right is None or side is None or right.shape != side.shape:
                row += [None, None]
            else:
                row += [_relative(side.astype(np.float64) / factor, right), _relative(rounded[key], right)]
        errors.append(LayerError(call.name, *row))
    return errors


def _relative(value: np.ndarray, expected: np.ndarray) -> float:
    norm, error = float(np.linalg.norm(expected)), float(np.linalg.norm(value - expected))
    return error / norm if norm else (0.0 if not error else float("inf"))


def write(folder: Path, log: RunLog, compared: Iterable[Tuple[str, Trace, Comparison]]) -> bool:
    """Log each side as it is compared and write port.json; whether rounding explains all differences."""
    agrees, sides = True, {}
    for side, trace, found in compared:
        for line in lines(found.verdict, side, found.by_depth):
            log.line(line)
        agrees = agrees and found.verdict.agrees
        sides[side] = to_json(found, trace.description)
    write_atomic(
        folder / FILE, json.dumps(_finite({"schema": SCHEMA, "sides": sides}), indent=1, allow_nan=False) + "\n"
    )
    return agrees


def lines(verdict: Verdict, side: str, by_depth: Sequence[LayerError]) -> List[str]:
    """What was compared and what came out, the first fault first."""
    counts = {stage: sum(check.stage == stage for check in verdict.checks) for stage in STAGES}
    counted = ", ".join(f"{stage} {count:,}" for stage, count in counts.items() if count)
    head = [f"compared: {len(verdict.checks):,} values of {side} with float64 on the CPU: {counted}"]
    if verdict.agrees:
        return [*head, *_depth(by_depth), conclusion(verdict)]
    rows = [f"{'stage':<11}{'layer':<34}{'value':<17}{'x rounding':>11}{'error':>10}  what"]
    for check in verdict.causes[:ROWS]:
        what, units, error = what_is_wrong(check), units_text(check.units), percent_text(check.relative_error, 3)
        rows.append(f"{check.stage:<11}{check.layer or '-':<34}{check.quantity:<17}{units:>11}{error:>10}  {what}")
    left = len(verdict.causes) - ROWS
    rows += [f"and {left} more in {FILE}"] if left > 0 else []
    return [*head, *rows, *_depth(by_depth), conclusion(verdict)]


def conclusion(verdict: Verdict) -> str:
    """The verdict as a sentence that begins with `agrees:` or `differs:`, the last line of a side."""
    first = verdict.first
    if first is None:
        near = verdict.closest(1)
        last = f"; the closest, {check_name(near[0])}, at {near[0].units:.2f} of its tolerance" if near else ""
        return f"agrees: rounding explains every difference{last}"
    others = len({check.layer for check in verdict.causes}) - 1
    more = f"; {others} more out of tolerance by themselves" if others else "; every other layer is right by itself"
    return f"differs: first in {check_name(first)}: {first.text}{more}"


def units_text(units: float) -> str:
    """Four significant digits, more where a number above 1 would read as 1; "-" where the value is not finite."""
    if not np.isfinite(units):
        return "-"
    digits = 4
    while (float(f"{units:.{digits}g}") > 1) != (units > 1):
        digits += 1
    return f"{units:.{digits}g}"


def what_is_wrong(check: Check) -> str:
    """The value with the largest error, and what it looks like."""
    return check.worst + (f" ({check.hint})" if check.hint else "")


def check_name(check: Check) -> str:
    """Layer and value: "layer1.0.conv1 output"."""
    return f"{check.layer} {check.quantity}".strip()


def _depth(errors: Sequence[LayerError]) -> List[str]:
    """The error that has built up at the end of the forward and of the backward pass."""
    if not errors:
        return []
    forward, backward = errors[-1], errors[0]
    text = f"error built up: {percent_text(forward.forward)} at the last layer"
    text += f" (rounding alone {percent_text(forward.forward_rounded)})"
    if backward.backward is not None:
        text += f", {percent_text(backward.backward)} in the gradient at the first"
        text += f" (rounding alone {percent_text(backward.backward_rounded)})"
    return [text]


def percent_text(value: Optional[float], digits: int = 2) -> str:
    """A relative error as percent, of so many significant digits; "-" where it is not finite."""
    if value is None or not np.isfinite(value):
        return "-"
    text = f"{100 * value:.{digits}g}"
    return f"{100 * value:,.0f} %" if 10**digits <= float(text) < 1e6 else f"{text} %"


def to_json(found: Comparison, description: Mapping[str, Any]) -> Dict[str, Any]:
    """A side in port.json: the verdict, every comparison, the error by depth and the loss curves."""
    verdict, first = found.verdict, found.verdict.first
    return {
        "schema": SCHEMA,
        "description": description,
        "agrees": verdict.agrees,
        "first": None if first is None else first.to_json(),
        "causes": [check.to_json() for check in verdict.causes],
        "checks": [check.to_json() for check in verdict.checks],
        "error_by_depth": [asdict(error) for error in found.by_depth],
        "losses": {name: list(values) for name, values in found.losses.items()},
    }


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
