"""Reads the files of a run's folder beside its record: events.jsonl, config.json, examples.json, port.json."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, TypeVar

from shared.port_check import report
from shared.port_check.report_file import Side, read_report
from shared.results.language import ENGLISH, Language
from shared.results.page.titles import titles
from shared.results.record import read_record
from shared.run.example_predictions import FILE, MOST
from shared.system.strict_json import COUNT, PERCENT, TEXT, Kind, check

Record = Dict[str, Any]
Curve = Sequence[Tuple[float, float]]  # steps and values; nan for null in events.jsonl, which is a gap in the line
T = TypeVar("T")

MOST_POINTS = 400  # of a curve; more are not visible at some hundred pixels
_LONGEST_RUN = 1e12  # steps; a larger number is damage
_VALUES = ("loss", "top1", "learning_rate", "images_per_second", "data_wait_share")

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
class Run:
    """A record and the other files of its run. `train` and `evaluation` are curves by the names of their values."""

    number: int  # on the page
    name: str  # of its folder, or of the file of a record alone
    record: Record
    train: Dict[str, Curve]
    evaluation: Dict[str, Curve]
    config: Optional[Dict[str, Any]]
    examples: Optional[Dict[str, Any]]  # the content of examples.json
    missing: Sequence[str]  # sentences about missing or damaged files
    sides: Sequence[Side] = ()  # of a run of check-port; none without its port.json
    title: str = ""  # set by `read_runs`: it depends on the other runs

    @property
    def checks_port(self) -> bool:
        """Whether it is a run of check-port, which has a verdict in place of curves and an evaluation."""
        return bool(self.record["mode"] == "check-port")

    @property
    def steps_per_epoch(self) -> Optional[float]:
        """From the record; None if it counts no epochs."""
        steps, epochs = self.record.get("steps_completed"), self.record.get("epochs_completed")
        return steps / epochs if steps and epochs else None


def read_runs(paths: Sequence[Path], say: Language = ENGLISH) -> List[Run]:
    """The runs of these records with their titles. Raises UsageError if a record is invalid."""
    runs = [read_run(number, path, say) for number, path in enumerate(paths)]
    named = titles([run.record for run in runs], [run.name for run in runs], say)
    return [replace(run, title=title) for run, title in zip(runs, named)]


def read_run(number: int, path: Path, say: Language = ENGLISH) -> Run:
    """The run whose record is the file at `path`. Absent and damaged files are named in `missing`, in this language.

    Raises UsageError if the record is invalid.
    """
    record = read_record(path)
    if path.name != "result.json":
        why = say("This is only the record; name the run's folder to see its curves, its recipe and its command.")
        return Run(number, path.stem, record, {}, {}, None, None, [why])
    missing: List[str] = []
    if record["mode"] == "check-port":
        sides = _sides(path.with_name(report.FILE), record, missing, say)
        config = _read(path.with_name("config.json"), _config, say("command"), missing, say)
        return Run(number, path.parent.name or "run", record, {}, {}, config, None, missing, sides)
    lines = _read(path.with_name("events.jsonl"), _json_lines, say("curves"), missing, say) or []
    events = [event for event in lines if isinstance(event, dict) and not math.isnan(_number(event.get("step")))]
    damaged = len(lines) - len(events)
    if damaged:
        one, more = "1 damaged line of events.jsonl left out.", "{count} damaged lines of events.jsonl left out."
        missing.append(say(one if damaged == 1 else more, count=damaged))
    curves = (_curves(events, "step"), _curves(events, "evaluation"))
    config = _read(path.with_name("config.json"), _config, say("recipe and no command"), missing, say)
    examples = None
    if "evaluation" in record:
        examples = _read(path.with_name(FILE), _examples, say("example images"), missing, say)
    return Run(number, path.parent.name or "run", record, *curves, config, examples, missing)


def _read(path: Path, parse: Callable[[str], T], what: str, missing: List[str], say: Language) -> Optional[T]:
    """The parsed file, or None and a sentence in `missing` where there is none or `parse` raises ValueError."""
    try:
        return parse(path.read_text(encoding="utf-8", errors="replace"))
    except OSError as error:
        why = error.strerror or error
        missing.append(say("No {what}: {file} cannot be read ({why}).", what=what, file=path.name, why=why))
    except (ValueError, RecursionError):
        missing.append(say("No {what}: {file} is damaged.", what=what, file=path.name))
    return None


def _sides(path: Path, record: Record, missing: List[str], say: Language) -> Sequence[Side]:
    """The sides of the port.json of this record; none, and a sentence in `missing`, where it cannot be trusted."""
    try:
        sides = read_report(path.read_text(encoding="utf-8", errors="replace"))
    except OSError as error:
        why = error.strerror or error
        missing.append(say("No {what}: {file} cannot be read ({why}).", what=say("verdict"), file=path.name, why=why))
        return ()
    except (ValueError, RecursionError) as error:
        missing.append(say("No verdict: {file} is damaged ({why}).", file=path.name, why=error))
        return ()
    own = sides[0].description  # the side of the machine that wrote the record; another is that of a trace
    for key in ("half", "device", "precision"):
        if own.get(key) != record.get(key):
            other = "No verdict: {file} is of another run, with {key} {value}."
            missing.append(say(other, file=path.name, key=key, value=own.get(key)))
            return ()
    return sides


def _json_lines(text: str) -> List[Any]:
    """The values of the lines; None for a damaged one."""
    values: List[Any] = []
    for line in filter(None, text.split("\n")):
        try:
            values.append(json.loads(line))
        except (ValueError, RecursionError):
            values.append(None)
    return values


def _config(text: str) -> Dict[str, Any]:
    config: Dict[str, Any] = json.loads(text)
    check(config, {}, lenient=True)
    return config


def _examples(text: str) -> Dict[str, Any]:
    content = json.loads(text)
    check(content, {"images": COUNT, "right": list, "wrong": list}, ("images", "right", "wrong"), lenient=True)
    for entry in content["right"] + content["wrong"]:
        check(entry, _EXAMPLE, _EXAMPLE, lenient=True)
    return {**content, "right": content["right"][:MOST], "wrong": content["wrong"][:MOST]}


def _curves(events: Sequence[Dict[str, Any]], kind: str) -> Dict[str, Curve]:
    """The curves of the events of this kind, each of at most `MOST_POINTS` + 1 points with its first and its last."""
    curves: Dict[str, Curve] = {}
    for name in _VALUES:
        values = [event for event in events if event.get("event") == kind and name in event]
        # A step that was logged twice has the last value.
        points = sorted({_number(event["step"]): _number(event[name]) for event in values}.items())
        if any(not math.isnan(value) for _, value in points):
            curves[name] = points[: -1 : -(-len(points) // MOST_POINTS)] + points[-1:]
    return curves


def _number(value: Any) -> float:
    """The value as a float; nan if it is no number that can be drawn."""
    drawable = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _LONGEST_RUN
    return float(value) if drawable else float("nan")
