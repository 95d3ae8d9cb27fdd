"""The log of a run: console, progress bar, train.log, events.jsonl and TensorBoard from the same numbers."""

from __future__ import annotations

import contextlib
import datetime
import json
import math
import os
import sys
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, Optional, Set, TextIO

import numpy as np

from shared.errors import reason
from shared.metrics import Metrics
from shared.run.append_log import AppendedFile
from shared.run.folder import locked
from shared.run.tensorboard import TensorBoardFile, confusion_picture
from shared.system.atomic_files import write_atomic
from shared.system.paths import writing
from shared.system.signals import Stopped, reader_gone
from shared.text import encoded


def now() -> str:
    """The current time in UTC, in ISO 8601, to the second."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


class RunLog:
    """Writes the log of a run; with `folder=None` to the console alone, and if `silent` nowhere: another process does.

    Events beyond the step from which a run is resumed are dropped, so that events.jsonl is that of an uninterrupted
    run; train.log, or `text_file`, keeps all lines. Raises UsageError if another process is writing a run into the
    folder, or if train.log or events.jsonl cannot be opened. Later write errors become lines, see
    `shared.run.append_log`.
    """

    def __init__(
        self,
        folder: Optional[Path],
        resumed_from_step: int = 0,
        text_file: Optional[str] = None,
        silent: bool = False,
        console: Optional[TextIO] = None,
    ) -> None:
        self._console, self._silent = console or sys.stdout, silent
        self._bar: Any = None
        self._notes: List[str] = []  # written after the next line
        self._text: Optional[AppendedFile] = None
        self._events: Optional[AppendedFile] = None
        self._tensorboard: Optional[TensorBoardFile] = None
        self._evaluated: Set[int] = set()  # steps whose evaluation is in events.jsonl
        self._closing = contextlib.ExitStack()  # what `close` does, in reverse order
        if folder is not None and not silent:
            with self._closing:
                self._open(folder, resumed_from_step, Path(text_file) if text_file else folder / "train.log")
                self._closing = self._closing.pop_all()

    def _open(self, folder: Path, resumed_from_step: int, text: Path) -> None:
        self._closing.enter_context(locked(folder))
        self._closing.callback(self._write_notes)
        with writing(text, "free space, or choose another --log-file"):
            self._text = AppendedFile(text, self._notes)
        self._closing.callback(self._text.close)
        self._closing.callback(self._write_notes)  # about the other two files
        events = folder / "events.jsonl"
        with writing(events, "free space, or choose another --output-dir"):
            if events.exists():
                self._evaluated = _drop_events_after(events, resumed_from_step)
            self._events = AppendedFile(events, self._notes)
        self._closing.callback(self._events.close)
        try:
            self._tensorboard = TensorBoardFile(folder / "tensorboard", resumed_from_step, self._notes)
            self._closing.callback(self._tensorboard.close)
        except ImportError:
            self._notes.append("note: no TensorBoard files are written; pip install tensorboard")
        except OSError as error:
            self._notes.append(f"note: no TensorBoard files are written ({folder / 'tensorboard'}: {reason(error)})")

    def line(self, text: str) -> None:
        """Write a line to train.log and the console. Raises Stopped if the console's reader is gone."""
        if self._silent:
            return
        if self._bar is not None:
            self._bar.clear()
        if self._text is not None:
            self._text.write(encoded(f"{text}\n"))
        try:
            print(text, file=self._console, flush=True)
        except BrokenPipeError:
            raise reader_gone(self._console) from None
        except OSError:  # a full disk; the stream's buffer is written with the next line
            pass
        while self._notes:
            self.line(self._notes.pop(0))

    def lines(self, texts: Iterable[str]) -> None:
        """Write these lines as `line` does."""
        for text in texts:
            self.line(text)

    def event(
        self,
        kind: str,
        step: int,
        values: Mapping[str, Any],
        scalars: Optional[Mapping[str, float]] = None,
        images: Optional[Mapping[str, np.ndarray]] = None,
    ) -> None:
        """Write an object to events.jsonl, and scalars and images, uint8 [H, W, 3], to TensorBoard under their tags.

        A run that was stopped between an evaluation and the next checkpoint evaluates again, which is logged once.
        """
        if kind == "evaluation" and step in self._evaluated:
            return
        if self._events is not None:
            record = {"event": kind, "step": step, "time": now(), **values}
            for name, value in values.items():
                if isinstance(value, float) and not math.isfinite(value):
                    record[name] = None  # JSON has no NaN
            self._events.write(encoded(json.dumps(record, allow_nan=False) + "\n"))
        if self._tensorboard is not None:
            self._tensorboard.add(step, scalars or {}, images or {})

    def evaluation(self, step: int, metrics: Metrics, epoch: Optional[int] = None) -> None:
        """An evaluation of the weights after so many steps; in a training at the end of its one-based `epoch`."""
        means = {"loss": metrics.loss, "top1": metrics.top1, "top5": metrics.top5}
        values = {"images": metrics.images, **means, **({} if epoch is None else {"epoch": epoch})}
        tags = {f"eval/{name}": value for name, value in means.items()}
        self.event("evaluation", step, values, tags, {"eval/confusion": confusion_picture(metrics.confusion)})

    def start(self, recipe: Mapping[str, Any], **more: Any) -> None:
        """Write the recipe, from `Recipe.to_json`, and what else was decided as TensorBoard's hyper-parameters."""
        if self._tensorboard is not None:
            self._tensorboard.begin({**recipe, **more})

    def succeeded(self) -> None:
        """Mark the run as successful in TensorBoard."""
        if self._tensorboard is not None:
            self._tensorboard.end()

    def start_bar(self, total: int, done: int) -> None:
        """Show a progress bar over the run's steps if standard error is a terminal."""
        if sys.stderr.isatty() and not self._silent:
            with contextlib.suppress(ImportError):
                from tqdm import tqdm

                self._bar = tqdm(total=total, initial=done, unit="step", leave=False, **_size_of_terminal())

    def advance_bar(self, epoch: str = "", postfix: Optional[Mapping[str, str]] = None) -> None:
        """Advance by a step; `postfix` is shown after the bar."""
        if self._bar is not None:
            if postfix:
                self._bar.set_description_str(epoch, refresh=False)
                self._bar.set_postfix(postfix, refresh=False)
            self._bar.update(1)

    def sync(self) -> None:
        """Make the log survive a power cut."""
        for file in (self._text, self._events, self._tensorboard):
            if file is not None:
                file.sync()

    def close(self) -> None:
        """Write the rest and close the files. Safe to call twice."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        self._closing.close()
        try:
            self._console.flush()
        except OSError:  # a full disk or no reader: Python's flush at exit would fail
            reader_gone(self._console)

    def _write_notes(self) -> None:
        while self._notes:
            with contextlib.suppress(Stopped):  # the run is ending
                self.line(self._notes.pop(0))

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()


def _size_of_terminal() -> Dict[str, Any]:
    """The terminal's size as tqdm's options; 80 x 24 if unknown, as in some containers, or tqdm shows none."""
    try:
        columns, lines = os.get_terminal_size(sys.stderr.fileno())
    except (OSError, ValueError):
        columns = lines = 0
    return {"dynamic_ncols": True} if columns and lines else {"ncols": columns or 80, "nrows": lines or 24}


def _drop_events_after(path: Path, step: int) -> Set[int]:
    """Drop the lines of events.jsonl beyond `step` and incomplete ones. Return the steps that have an evaluation."""
    kept, evaluated = [], set()
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            event = json.loads(line)
            if event["step"] <= step:
                kept.append(line + "\n")
                if event["event"] == "evaluation":
                    evaluated.add(event["step"])
        except (ValueError, KeyError, TypeError):
            continue
    write_atomic(path, "".join(kept))
    return evaluated
