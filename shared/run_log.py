"""The one writer of a run: console, progress bar, train.log, events.jsonl and TensorBoard from the same numbers."""

from __future__ import annotations

import datetime
import json
import math
import sys
from pathlib import Path
from typing import Any, Dict, Optional, TextIO

from shared.errors import UsageError
from shared.files import write_atomic
from shared.interrupts import reader_gone


def now() -> str:
    """The time in ISO 8601, UTC, to the second."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


class RunLog:
    """Writes what a run has to say; with `folder=None` to the console alone.

    A resumed run gives the step it continues from: events that an interrupted run had logged beyond it are dropped,
    so that events.jsonl reads as if nothing had happened; train.log keeps what people have seen. `text_file` takes the
    place of train.log; raises UsageError where it cannot be written.
    """

    def __init__(
        self,
        folder: Optional[Path],
        resumed_from_step: int = 0,
        console: Optional[TextIO] = None,
        text_file: Optional[str] = None,
    ) -> None:
        self._console = console or sys.stdout
        self._bar: Any = None
        self._note: Optional[str] = None  # to follow the first line, which belongs to the run
        self._text: Optional[TextIO] = None
        self._events: Optional[TextIO] = None
        self._scalars: Optional[_Scalars] = None
        if folder is not None:
            events = folder / "events.jsonl"
            if events.exists():
                _drop_events_after(events, resumed_from_step)
            self._text = _opened(Path(text_file) if text_file else folder / "train.log")
            self._events = events.open("a", encoding="utf-8")
            self._scalars = _Scalars.open(folder / "tensorboard", resumed_from_step)
            if self._scalars is None:
                self._note = "note: no TensorBoard files are written; pip install tensorboard"

    def line(self, text: str) -> None:
        """One line in train.log and on the console. Raises Stopped where nobody reads the console any more."""
        if self._bar is not None:
            self._bar.clear()
        if self._text is not None:
            self._text.write(text + "\n")
            self._text.flush()
        try:
            print(text, file=self._console, flush=True)
        except BrokenPipeError:
            raise reader_gone(self._console) from None
        if self._note is not None:
            note, self._note = self._note, None
            self.line(note)

    def event(self, kind: str, step: int, values: Dict[str, Any], scalars: Optional[Dict[str, float]] = None) -> None:
        """One object in events.jsonl and, where given, scalars under their TensorBoard tags."""
        if self._events is not None:
            record = {"event": kind, "step": step, "time": now()}
            record.update({key: _finite(value) for key, value in values.items()})
            self._events.write(json.dumps(record, allow_nan=False) + "\n")
            self._events.flush()
        if self._scalars is not None:
            self._scalars.write(step, scalars or {})

    def start_bar(self, total: int, done: int) -> None:
        """A progress bar over the run's steps, where standard error is a terminal; nothing elsewhere."""
        if not sys.stderr.isatty():
            return
        try:
            from tqdm import tqdm
        except ImportError:
            return
        self._bar = tqdm(total=total, initial=done, unit="step", dynamic_ncols=True, leave=False)

    def advance_bar(self, epoch: str = "", **postfix: Any) -> None:
        """One more step; `postfix` is shown behind the bar when given."""
        if self._bar is not None:
            if postfix:
                self._bar.set_description_str(epoch, refresh=False)
                self._bar.set_postfix(postfix, refresh=False)
            self._bar.update(1)

    def close(self) -> None:
        """Write everything out. Safe to call twice."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        for file in (self._text, self._events, self._scalars):
            if file is not None:
                file.close()
        self._text = self._events = self._scalars = None

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()


class SilentLog(RunLog):
    """The log of a process that writes nothing, because another one of the same run does."""

    def __init__(self) -> None:
        super().__init__(None)

    def line(self, text: str) -> None:
        """Nothing."""

    def start_bar(self, total: int, done: int) -> None:
        """No bar."""


def open_log(
    folder: Optional[Path], resumed_from_step: int = 0, text_file: Optional[str] = None, silent: bool = False
) -> RunLog:
    """The log of a process of a run: `RunLog`, or a `SilentLog` where another process writes."""
    return SilentLog() if silent else RunLog(folder, resumed_from_step, text_file=text_file)


class _Scalars:
    """TensorBoard scalars through TensorBoard's own writer, which needs no framework."""

    def __init__(self, writer: Any, event: Any, summary: Any) -> None:
        self._writer, self._event, self._summary = writer, event, summary

    @classmethod
    def open(cls, folder: Path, resumed_from_step: int) -> Optional[_Scalars]:
        try:
            from tensorboard.compat.proto.event_pb2 import Event, SessionLog
            from tensorboard.compat.proto.summary_pb2 import Summary
            from tensorboard.summary.writer.event_file_writer import EventFileWriter
        except ImportError:
            return None
        writer = EventFileWriter(str(folder))
        if resumed_from_step:
            # START tells TensorBoard to drop what an interrupted run wrote beyond this step.
            writer.add_event(Event(step=resumed_from_step + 1, session_log=SessionLog(status=SessionLog.START)))
        return cls(writer, Event, Summary)

    def write(self, step: int, scalars: Dict[str, float]) -> None:
        if scalars:
            import time

            values = [self._summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
            self._writer.add_event(self._event(wall_time=time.time(), step=step, summary=self._summary(value=values)))

    def close(self) -> None:
        self._writer.close()


def _opened(path: Path) -> TextIO:
    try:
        return path.open("a", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {path} ({error.strerror or error}); choose another --log-file") from error


def _drop_events_after(path: Path, step: int) -> None:
    """Keep the whole lines of events.jsonl up to `step`; a line that a power cut left half-written goes too."""
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except (ValueError, KeyError, TypeError):
            continue
    write_atomic(path, "".join(kept))


def _finite(value: Any) -> Any:
    """JSON has no NaN: what is not a number is null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
