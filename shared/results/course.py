"""The course of a run: its curves and example predictions, from its folder or thinned in a published record."""

from __future__ import annotations

import json
import math
import re
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from shared.run.example_predictions import MOST
from shared.system.strict_json import COUNT, PERCENT, TEXT, Kind, check

Curve = Sequence[Tuple[float, float]]  # steps and values; nan for null in a file, which is a gap in the line
Curves = Mapping[str, Curve]  # by the names of their values

VALUES = ("loss", "top1", "learning_rate", "images_per_second", "data_wait_share")
MOST_POINTS = 400  # of a curve; more are not visible at some hundred pixels
MOST_KEPT = 200  # of a curve in a published record
LARGEST = 30_000  # bytes of a published record, to which its images are chosen
_MOST_CELLS = 100  # classes of the largest confusion matrix in a published record
_LONGEST_RUN = 1e12  # steps; a larger number is damage
_KINDS = ("step", "evaluation")  # of events

# A picture is embedded in full, so that the page makes no network request, and is small enough not to fill the page.
_PICTURE = re.compile(r"data:image/(png|jpeg);base64,[A-Za-z0-9+/]{1,200000}={0,2}")
_EXAMPLE = {
    "picture": Kind(lambda value: isinstance(value, str) and bool(_PICTURE.fullmatch(value)), "a picture"),
    "label": COUNT,
    "label_name": TEXT,
    "answer": COUNT,
    "answer_name": TEXT,
    "confidence": PERCENT,
}


class Course(NamedTuple):
    """Curves of the steps and of the evaluations; examples as in examples.json, None where there are none."""

    train: Curves
    evaluation: Curves
    examples: Optional[Dict[str, Any]]


def of_events(events: Sequence[Dict[str, Any]], kind: str) -> Curves:
    """The curves of the events of this kind, each of at most `MOST_POINTS` + 1 points with its first and its last."""
    curves: Dict[str, Curve] = {}
    for name in VALUES:
        values = [event for event in events if event.get("event") == kind and name in event]
        # A step that was logged twice has the last value.
        points = sorted({number(event["step"]): number(event[name]) for event in values}.items())
        if any(not math.isnan(value) for _, value in points):
            curves[name] = _thinned(points, MOST_POINTS)
    return curves


def _thinned(points: Curve, most: int) -> Curve:
    return [*points[: -1 : -(-len(points) // most)], *points[-1:]]


def number(value: Any) -> float:
    """The value as a float; nan if it is no number that can be drawn."""
    drawable = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _LONGEST_RUN
    return float(value) if drawable else float("nan")


def checked_examples(content: Any) -> Dict[str, Any]:
    """The content of examples.json, of which at most `MOST` are taken of each kind. Raises ValueError."""
    check(content, {"images": COUNT, "right": list, "wrong": list}, ("images", "right", "wrong"), lenient=True)
    for entry in content["right"] + content["wrong"]:
        check(entry, _EXAMPLE, _EXAMPLE, lenient=True)
    return {**content, "right": content["right"][:MOST], "wrong": content["wrong"][:MOST]}


def _are_curves(value: Any) -> bool:
    """Groups of curves with the same steps: lists of the same length, of numbers, and null where a value is not one."""
    if not isinstance(value, list):
        return False
    for group in value:
        if not isinstance(group, dict) or group.get("of") not in _KINDS or not {"of", "step"} < set(group):
            return False
        columns = [group[name] for name in group if name != "of"]
        if not set(group) <= {"of", "step", *VALUES} or not all(isinstance(column, list) for column in columns):
            return False
        if len({len(column) for column in columns}) != 1 or any(math.isnan(number(step)) for step in group["step"]):
            return False
        if any(item is not None and math.isnan(number(item)) for column in columns for item in column):
            return False
    return True


def _are_examples(value: Any) -> bool:
    try:
        checked_examples(value)
    except ValueError:
        return False
    return True


KEPT = {"curves": Kind(_are_curves, "curves"), "examples": Kind(_are_examples, "examples")}  # in a record


def kept_in(record: Mapping[str, Any]) -> Course:
    """The course that a valid published record holds; empty where it holds none."""
    found: Dict[str, Dict[str, Curve]] = {kind: {} for kind in _KINDS}
    for group in record.get("curves", []):
        for name in group:
            if name in VALUES:
                found[group["of"]][name] = [
                    (number(at), number(value)) for at, value in zip(group["step"], group[name])
                ]
    examples = record.get("examples")
    return Course(found["step"], found["evaluation"], None if examples is None else checked_examples(examples))


def with_course(record: Mapping[str, Any], course: Course) -> Dict[str, Any]:
    """The record with thinned curves of five significant digits, and as many examples as `LARGEST` leaves room for.

    Of more than 100 classes the confusion matrix, whose cells are millions, is left out.
    """
    kept = dict(record)
    groups = _groups("step", course.train) + _groups("evaluation", course.evaluation)
    if groups:
        kept["curves"] = groups
    if len(kept.get("evaluation", {}).get("confusion", ())) > _MOST_CELLS:
        kept["evaluation"] = {name: value for name, value in kept["evaluation"].items() if name != "confusion"}
    if course.examples is not None:
        kept["examples"] = _fitting(course.examples, LARGEST - len(json.dumps(kept, ensure_ascii=False).encode()))
    return kept


def _groups(kind: str, curves: Curves) -> List[Dict[str, Any]]:
    """The curves, together where they have the same steps, which then are written once."""
    groups: List[Dict[str, Any]] = []
    for name, curve in curves.items():
        points = _thinned(curve, MOST_KEPT)
        steps = [int(step) if step == int(step) else step for step, _ in points]
        group = next((group for group in groups if group["step"] == steps), None)
        if group is None:
            group = {"of": kind, "step": steps}
            groups.append(group)
        group[name] = [None if math.isnan(value) else float(f"{value:.5g}") for _, value in points]
    return groups


def _fitting(examples: Mapping[str, Any], room: int) -> Dict[str, Any]:
    """As many of the most confident examples of both kinds by turns as fit into so many bytes."""
    kept: Dict[str, Any] = {"images": examples["images"], "right": [], "wrong": []}
    for place in range(MOST):
        for kind in ("right", "wrong"):
            for entry in examples[kind][place : place + 1]:
                entry = {name: entry[name] for name in _EXAMPLE}
                entry["confidence"] = round(entry["confidence"], 2)
                room -= len(json.dumps(entry, ensure_ascii=False).encode("utf-8", "replace"))
                if room < 0:
                    return kept
                kept[kind].append(entry)
    return kept
