"""The logged steps and evaluations of runs, their events.jsonl, as one CSV for a spreadsheet or pandas."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

from shared.errors import UsageError
from shared.system.paths import reading
from shared.text import printable

FILE = "events.jsonl"
# Always there, in this order; what else a file has follows in alphabetical order. Accuracies are percent, losses nats.
COLUMNS = (
    *("run", "event", "time", "epoch", "step", "loss", "step_loss", "top1", "top5", "learning_rate", "images"),
    *("images_per_second", "step_ms_p50", "step_ms_p95", "data_wait_share", "steps_timed", "loss_scale"),
    "steps_skipped",
)


def events_csv(runs: Sequence[str]) -> Tuple[str, List[str]]:
    """A line for each event, with the run's folder as it was named, and notes of damaged lines that are left out.

    A run may still be going on. What was not measured, or is no finite number, is an empty cell. Raises UsageError
    where there are no events.
    """
    if not runs:
        raise UsageError("--format events needs runs; name their folders")
    rows: List[Dict[str, Any]] = []
    notes: List[str] = []
    for path in [path for run in runs for path in _files(Path(run))]:
        with reading(path, "name a run's folder"):
            values = json_lines(path.read_text(encoding="utf-8", errors="replace"))
        events = [event for event in map(_event, values) if event]
        damaged = len(values) - len(events)
        if damaged:
            notes.append(f"note: {damaged} damaged line{'s' * (damaged > 1)} of {path} left out")
        rows += [{**event, "run": printable(str(path.parent))} for event in events]
    others = sorted({name for row in rows for name in row} - set(COLUMNS))
    file = io.StringIO()
    writer = csv.DictWriter(file, [*COLUMNS, *others], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue(), notes


def _files(run: Path) -> List[Path]:
    """The events of a run's folder, of all runs below a folder, or the file itself."""
    if run.is_file():
        return [run]
    found = [run / FILE] if (run / FILE).is_file() else sorted(run.rglob(FILE))
    if not found:
        raise UsageError(f"no {FILE} in {run}; name a run's folder")
    return found


def json_lines(text: str) -> List[Any]:
    """The values of the lines; None for a damaged one."""
    values: List[Any] = []
    for line in filter(None, text.split("\n")):
        try:
            values.append(json.loads(line))
        except (ValueError, RecursionError):
            values.append(None)
    return values


def _event(event: Any) -> Dict[str, Any]:
    """The numbers and texts of a line's value; {} where it is no event."""
    if not isinstance(event, dict) or not isinstance(event.get("event"), str) or not isinstance(event.get("step"), int):
        return {}
    return {name: value for name, value in event.items() if isinstance(value, (str, int, float))}
