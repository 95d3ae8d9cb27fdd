"""Reads the files of a run's folder beside its record: events.jsonl, config.json, examples.json, port.json."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, TypeVar

from shared.port_check import report
from shared.port_check.report_file import Side, read_report
from shared.results.course import Course, Curves, checked_examples, kept_in, number, of_events, with_course
from shared.results.events import FILE as EVENTS
from shared.results.events import json_lines
from shared.results.language import ENGLISH, Language
from shared.results.page.titles import titles
from shared.results.record import read_record
from shared.run.example_predictions import FILE
from shared.system.strict_json import check

Record = Dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Run:
    """A record and the other files of its run. `train` and `evaluation` are curves by the names of their values."""

    number: int  # on the page
    name: str  # of its folder, or of the file of a record alone
    record: Record
    train: Curves
    evaluation: Curves
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
    runs = [read_run(place, path, say) for place, path in enumerate(paths)]
    named = titles([run.record for run in runs], [run.name for run in runs], say)
    return [replace(run, title=title) for run, title in zip(runs, named)]


def read_run(place: int, path: Path, say: Language = ENGLISH) -> Run:
    """The run whose record is the file at `path`. Absent and damaged files are named in `missing`, in this language.

    Raises UsageError if the record is invalid.
    """
    record = read_record(path)
    kept = kept_in(record)
    if kept.train or kept.evaluation:
        why = say("This is a published record: of its run's folder it has thinned curves and some of the examples.")
        return Run(place, path.stem, record, kept.train, kept.evaluation, None, kept.examples, [why])
    if path.name != "result.json":
        why = say("This is only the record; name the run's folder to see its curves, its recipe and its command.")
        return Run(place, path.stem, record, {}, {}, None, kept.examples, [why])
    missing: List[str] = []
    if record["mode"] == "check-port":
        sides = _sides(path.with_name(report.FILE), record, missing, say)
        config = _read(path.with_name("config.json"), _config, say("command"), missing, say)
        return Run(place, path.parent.name or "run", record, {}, {}, config, None, missing, sides)
    lines = _read(path.with_name(EVENTS), json_lines, say("curves"), missing, say) or []
    events = [event for event in lines if isinstance(event, dict) and not math.isnan(number(event.get("step")))]
    damaged = len(lines) - len(events)
    if damaged:
        one, more = "1 damaged line of events.jsonl left out.", "{count} damaged lines of events.jsonl left out."
        missing.append(say(one if damaged == 1 else more, count=damaged))
    curves = (of_events(events, "step"), of_events(events, "evaluation"))
    config = _read(path.with_name("config.json"), _config, say("recipe and no command"), missing, say)
    examples = None
    if "evaluation" in record:
        examples = _read(path.with_name(FILE), _examples, say("example images"), missing, say)
    return Run(place, path.parent.name or "run", record, *curves, config, examples, missing)


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


def _config(text: str) -> Dict[str, Any]:
    config: Dict[str, Any] = json.loads(text)
    check(config, {}, lenient=True)
    return config


def _examples(text: str) -> Dict[str, Any]:
    return checked_examples(json.loads(text))


def to_publish(path: Path) -> Tuple[Record, Sequence[str]]:
    """The record at `path` with the course of its run, and sentences about what of that is missing or damaged.

    Raises UsageError if the record is invalid.
    """
    run = read_run(0, path)
    return with_course(run.record, Course(run.train, run.evaluation, run.examples)), run.missing
