"""Reads the files of a run's folder beside its record: the curves of events.jsonl, config.json, examples.json."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

from shared.run.example_predictions import FILE, MOST
from shared.system.strict_json import COUNT, PERCENT, TEXT, Kind, check

Record = Dict[str, Any]
MOST_POINTS = 400  # of a curve; more are not visible at some hundred pixels
_LONGEST_RUN = 1e12  # steps; a larger number is damage
STEP_VALUES = ("loss", "top1", "top5", "learning_rate", "images_per_second", "data_wait_share")
EVALUATION_VALUES = ("loss", "top1", "top5")

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


@dataclass(frozen=True)
class Curve:
    """Values over steps; nan for null in events.jsonl, which is a gap in the line."""

    steps: Tuple[float, ...] = ()
    values: Tuple[float, ...] = ()


@dataclass(frozen=True)
class Run:
    """A record and the other files of its run. `train` and `evaluation` are curves by the names of their values."""

    name: str
    record: Record
    train: Dict[str, Curve] = field(default_factory=dict)
    evaluation: Dict[str, Curve] = field(default_factory=dict)
    config: Optional[Dict[str, Any]] = None
    examples: Optional[Dict[str, Any]] = None  # the content of examples.json
    missing: Tuple[str, ...] = ()  # sentences about missing or damaged files

    @property
    def steps_per_epoch(self) -> Optional[float]:
        """From the record; None if it counts no epochs."""
        steps, epochs = self.record.get("steps_completed"), self.record.get("epochs_completed")
        return steps / epochs if steps and epochs else None


def read_run(path: Path, record: Record) -> Run:
    """The run whose record is the file at `path`. Absent and damaged files are named in `missing`."""
    if path.name != "result.json":
        why = "This is only the record; name the run's folder to see its curves, its recipe and its command."
        return Run(path.stem, record, missing=(why,))
    missing: List[str] = []
    events = _events(path.parent / "events.jsonl", missing)
    return Run(
        path.parent.name or "run",
        record,
        _curves(events, "step", STEP_VALUES),
        _curves(events, "evaluation", EVALUATION_VALUES),
        _config(path.parent / "config.json", missing),
        _examples(path.parent / FILE, missing) if "evaluation" in record else None,
        tuple(missing),
    )


def _events(path: Path, missing: List[str]) -> List[Dict[str, Any]]:
    found, damaged = [], 0
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                event = _json(line)
                if isinstance(event, dict) and not math.isnan(_number(event.get("step"))):
                    found.append(event)
                else:
                    damaged += 1
    except OSError as error:
        missing.append(f"No curves: {path.name} cannot be read ({error.strerror or error}).")
    if damaged:
        missing.append(f"{damaged} damaged line{'' if damaged == 1 else 's'} of {path.name} left out.")
    return found


def _config(path: Path, missing: List[str]) -> Optional[Dict[str, Any]]:
    try:
        config = _json(path.read_text(encoding="utf-8", errors="replace"))
    except OSError as error:
        missing.append(f"No recipe and no command: {path.name} cannot be read ({error.strerror or error}).")
        return None
    if not isinstance(config, dict):
        missing.append(f"No recipe and no command: {path.name} is damaged.")
        return None
    return config


def _examples(path: Path, missing: List[str]) -> Optional[Dict[str, Any]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        check(content, {"images": COUNT, "right": list, "wrong": list}, ("images", "right", "wrong"), lenient=True)
        for entry in content["right"] + content["wrong"]:
            check(entry, _EXAMPLE, _EXAMPLE, lenient=True)
        return {**content, "right": content["right"][:MOST], "wrong": content["wrong"][:MOST]}
    except OSError as error:
        missing.append(f"No example images: {FILE} cannot be read ({error.strerror or error}).")
    except (ValueError, RecursionError):
        missing.append(f"No example images: {FILE} is damaged.")
    return None


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _curves(events: Sequence[Dict[str, Any]], kind: str, names: Sequence[str]) -> Dict[str, Curve]:
    curves = {}
    for name in names:
        points = {
            _number(event["step"]): _number(event[name])
            for event in events
            if event.get("event") == kind and name in event
        }  # of a step that was logged twice, the last value
        if any(not math.isnan(value) for value in points.values()):
            curves[name] = _thinned(sorted(points.items()))
    return curves


def _thinned(points: List[Tuple[float, float]]) -> Curve:
    """At most `MOST_POINTS` + 1 evenly chosen points, with the first and the last."""
    stride = -(-len(points) // MOST_POINTS)
    kept = points[::stride] if stride > 1 else points
    if kept[-1] != points[-1]:
        kept = [*kept, points[-1]]
    return Curve(tuple(step for step, _ in kept), tuple(value for _, value in kept))


def _number(value: Any) -> float:
    """The value as a float; nan if it is no number that can be drawn."""
    drawable = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _LONGEST_RUN
    return float(value) if drawable else float("nan")
