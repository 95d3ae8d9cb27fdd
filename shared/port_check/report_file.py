"""port.json read back, from an untrusted file: the sides of a run of check-port, each with its comparison."""

from __future__ import annotations

import json
from typing import Any, Dict, List, Mapping, NamedTuple, Optional

from shared.port_check.findings import STAGES, Check, verdict
from shared.port_check.report import SCHEMA, Comparison, LayerError
from shared.system.strict_json import Kind, check

_TEXT = Kind(lambda value: isinstance(value, str), "a text")
_SIZE = Kind(lambda value: value is None or (type(value) in (int, float) and 0 <= value < 1e300), "a number or null")
_LOSS = Kind(lambda value: value is None or (type(value) in (int, float) and abs(value) < 1e300), "a number or null")
_REPORT = {"schema": Kind(lambda value: value == SCHEMA and value is not True, str(SCHEMA)), "sides": dict}
_SIDE = {"description": dict, "agrees": bool, "checks": list, "error_by_depth": list, "losses": dict}
_CHECK: Dict[str, Any] = {
    "stage": Kind(lambda value: value in STAGES, "a stage"),
    **dict.fromkeys(("layer", "quantity", "text", "worst", "hint"), _TEXT),
    **dict.fromkeys(("units", "relative_error"), _SIZE),
    "agrees": bool,
}
_ERRORS = dict.fromkeys(("forward", "forward_rounded", "backward", "backward_rounded"), _SIZE)
_LAYER = {"layer": _TEXT, **_ERRORS}
_CURVES = ("side", "reference", "rounded")


class Side(NamedTuple):
    """What was compared with the reference: its name, where it was computed, and what came out."""

    name: str
    description: Mapping[str, Any]  # of the trace; not checked
    found: Comparison  # nan or inf for what was not finite


def read_report(text: str) -> List[Side]:
    """The sides in the text of a port.json. Raises ValueError, one line, where it is none or contradicts itself.

    The verdict is drawn again from the comparisons, so that no entry can hide one that is out of tolerance.
    """
    content = json.loads(text, parse_constant=lambda name: None)
    check(content, _REPORT, _REPORT, lenient=True)
    if not content["sides"]:
        raise ValueError("it has no side")
    return [_side(name, side) for name, side in content["sides"].items()]


def _side(name: str, content: Any) -> Side:
    check(content, _SIDE, _SIDE, lenient=True)
    for row in content["error_by_depth"]:
        check(row, _LAYER, _LAYER, lenient=True)
    found = verdict([_check(row) for row in content["checks"]])
    if not found.checks:
        raise ValueError("nothing was compared")
    if content["agrees"] != found.agrees:
        raise ValueError(f"agrees is {content['agrees']}, and {len(found.causes)} comparisons are out of tolerance")
    losses = {curve: _losses(content["losses"].get(curve)) for curve in _CURVES}
    by_depth = [LayerError(**{key: row[key] for key in _LAYER}) for row in content["error_by_depth"]]
    return Side(name, content["description"], Comparison(found, by_depth, losses))


def _check(row: Any) -> Check:
    check(row, _CHECK, _CHECK, lenient=True)
    sizes = {name: _finite_or(row[name], float("inf")) for name in ("units", "relative_error")}
    found = Check(**{**{name: row[name] for name in _CHECK if name != "agrees"}, **sizes})
    if row["agrees"] != found.agrees:
        raise ValueError(f"{row['layer']} {row['quantity']}: agrees is {row['agrees']} with units {row['units']}"[:200])
    return found


def _losses(values: Any) -> List[float]:
    check({"losses": values}, {"losses": list})
    for value in values:
        check({"losses": value}, {"losses": _LOSS})
    return [_finite_or(value, float("nan")) for value in values]


def _finite_or(value: Optional[float], other: float) -> float:
    return other if value is None else float(value)
