"""The comparison for people and programs: lines for the log, and port.json."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

import numpy as np

from shared.port_check.findings import STAGES, Check, Verdict
from shared.system.atomic_files import write_atomic

FILE = "port.json"
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


def lines(verdict: Verdict, side: str, by_depth: Sequence[LayerError]) -> List[str]:
    """What was compared and what came out, the first fault first."""
    counts = {stage: sum(check.stage == stage for check in verdict.checks) for stage in STAGES}
    counted = ", ".join(f"{stage} {count:,}" for stage, count in counts.items() if count)
    head = [f"compared: {len(verdict.checks):,} values of {side} with float64 on the CPU: {counted}"]
    first = verdict.first
    if first is None:
        near = verdict.closest(1)
        last = f"; the closest, {_name(near[0])}, at {near[0].units:.2f} of its tolerance" if near else ""
        return [*head, *_depth(by_depth), f"agrees: rounding explains every difference{last}"]
    rows = [f"{'stage':<11}{'layer':<34}{'value':<17}{'x rounding':>11}{'error':>10}  what"]
    for check in verdict.causes[:ROWS]:
        units = f"{check.units:.4g}" if np.isfinite(check.units) else "-"
        error = f"{100 * check.relative_error:.3g} %" if np.isfinite(check.relative_error) else "-"
        what = check.worst + (f" ({check.hint})" if check.hint else "")
        rows.append(f"{check.stage:<11}{check.layer or '-':<34}{check.quantity:<17}{units:>11}{error:>10}  {what}")
    left = len(verdict.causes) - ROWS
    rows += [f"and {left} more in {FILE}"] if left > 0 else []
    others = len({check.layer for check in verdict.causes}) - 1
    more = f"; {others} more out of tolerance by themselves" if others else "; every other layer is right by itself"
    return [*head, *rows, *_depth(by_depth), f"differs: first in {_name(first)}: {first.text}{more}"]


def _name(check: Check) -> str:
    return f"{check.layer} {check.quantity}".strip()


def _depth(errors: Sequence[LayerError]) -> List[str]:
    """The error that has built up at the end of the forward and of the backward pass."""
    if not errors:
        return []
    forward, backward = errors[-1], errors[0]
    text = f"error built up: {_percent(forward.forward)} at the last layer"
    text += f" (rounding alone {_percent(forward.forward_rounded)})"
    if backward.backward is not None:
        text += f", {_percent(backward.backward)} in the gradient at the first"
        text += f" (rounding alone {_percent(backward.backward_rounded)})"
    return [text]


def _percent(value: Optional[float]) -> str:
    return "-" if value is None or not np.isfinite(value) else f"{100 * value:.2g} %"


def to_json(
    verdict: Verdict, by_depth: Sequence[LayerError], losses: Mapping[str, Sequence[float]], about: Mapping[str, Any]
) -> Dict[str, Any]:
    """port.json: the verdict, every comparison, the error by depth and the loss curves."""
    first = verdict.first
    return {
        "schema": 1,
        **about,
        "agrees": verdict.agrees,
        "first": None if first is None else first.to_json(),
        "causes": [check.to_json() for check in verdict.causes],
        "checks": [check.to_json() for check in verdict.checks],
        "error_by_depth": [asdict(error) for error in by_depth],
        "losses": {name: list(values) for name, values in losses.items()},
    }


def write_report(folder: Path, content: Mapping[str, Any]) -> None:
    """Write port.json; numbers that are not finite become null."""
    write_atomic(folder / FILE, json.dumps(_finite(content), indent=1, allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
