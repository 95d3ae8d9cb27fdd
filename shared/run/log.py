"""The one writer of a run: console, progress bar, train.log, events.jsonl and TensorBoard from the same numbers."""

from __future__ import annotations

import contextlib
import datetime
import json
import math
import os
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Set, TextIO

import numpy as np

from shared.cli.signals import Stopped, reader_gone
from shared.errors import UsageError
from shared.run.append_log import AppendedFile
from shared.run.folder_lock import FolderLock
from shared.run.tensorboard import HyperParameter, TensorBoardFile
from shared.system.atomic_files import write_atomic
from shared.text import encoded


def now() -> str:
    """The time in ISO 8601, UTC, to the second."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


class RunLog:
    """Writes what a run has to say; with `folder=None` to the console alone.

    A resumed run gives the step it continues from: events that an interrupted run had logged beyond it are dropped,
    so that events.jsonl reads as if nothing had happened; train.log keeps what people have seen. `text_file` takes the
    place of train.log.

    Raises UsageError where another process writes a run into the folder, and where train.log or events.jsonl cannot be
    opened: at the beginning nothing is lost by stopping.
    Later a file that cannot be written does not end the run, see `shared.run.append_log`; one line says so, and another
    one when the file is complete again or what it lacks in the end. A console that is a file on a full disk gets what
    it takes.
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
        self._notes: List[str] = []  # to follow the next line, as the first one belongs to the run
        self._text: Optional[AppendedFile] = None
        self._events: Optional[AppendedFile] = None
        self._tensorboard: Optional[TensorBoardFile] = None
        self._evaluated: Set[int] = set()  # the steps of which the file has the evaluation
        self._lock: Optional[FolderLock] = None
        if folder is not None:
            self._lock = FolderLock(folder)
            try:
                self._open(folder, resumed_from_step, Path(text_file) if text_file else folder / "train.log")
            except BaseException:
                self._lock.release()
                raise

    def _open(self, folder: Path, resumed_from_step: int, text: Path) -> None:
        with _or_refused(text, "free space, or choose another --log-file"):
            self._text = AppendedFile(text, self._notes)
        events = folder / "events.jsonl"
        with _or_refused(events, "free space, or choose another --output-dir"):
            if events.exists():
                self._evaluated = _drop_events_after(events, resumed_from_step)
            self._events = AppendedFile(events, self._notes)
        self._tensorboard = TensorBoardFile.open(folder / "tensorboard", resumed_from_step, self._notes)

    def line(self, text: str) -> None:
        """One line in train.log and on the console. Raises Stopped where nobody reads the console any more."""
        if self._bar is not None:
            self._bar.clear()
        if self._text is not None:
            self._text.write(encoded(f"{text}\n"))
        try:
            print(text, file=self._console, flush=True)
        except BrokenPipeError:
            raise reader_gone(self._console) from None
        except OSError:  # a full disk; what is in the stream's buffer is tried again with the next line
            pass
        while self._notes:
            self.line(self._notes.pop(0))

    def event(
        self,
        kind: str,
        step: int,
        values: Mapping[str, Any],
        scalars: Optional[Mapping[str, float]] = None,
        images: Optional[Mapping[str, np.ndarray]] = None,
    ) -> None:
        """One object in events.jsonl and, where given, scalars and images uint8 [H, W, 3] under their TensorBoard tags.

        A run that ended between its evaluation and the checkpoint after it evaluates once more: that is logged once.
        """
        if kind == "evaluation" and step in self._evaluated:
            return
        if self._events is not None:
            record = {"event": kind, "step": step, "time": now()}
            record.update({key: _finite(value) for key, value in values.items()})
            self._events.write(encoded(json.dumps(record, allow_nan=False) + "\n"))
        if self._tensorboard is not None:
            self._tensorboard.write(step, scalars or {}, images or {})

    def hyper_parameters(self, values: Mapping[str, HyperParameter]) -> None:
        """What the run was started with, for TensorBoard alone: config.json says more."""
        if self._tensorboard is not None:
            self._tensorboard.begin(values)

    def succeeded(self) -> None:
        """The run has done all it was to do; TensorBoard says so beside its hyper-parameters."""
        if self._tensorboard is not None:
            self._tensorboard.end()

    def start_bar(self, total: int, done: int) -> None:
        """A progress bar over the run's steps, where standard error is a terminal; nothing elsewhere."""
        if not sys.stderr.isatty():
            return
        try:
            from tqdm import tqdm
        except ImportError:
            return
        self._bar = tqdm(total=total, initial=done, unit="step", leave=False, **_size_of_terminal())

    def advance_bar(self, epoch: str = "", postfix: Optional[Mapping[str, str]] = None) -> None:
        """One more step; `postfix` is shown behind the bar when given."""
        if self._bar is not None:
            if postfix:
                self._bar.set_description_str(epoch, refresh=False)
                self._bar.set_postfix(postfix, refresh=False)
            self._bar.update(1)

    def sync(self) -> None:
        """Make what has been logged survive a power cut."""
        for file in (self._text, self._events, self._tensorboard):
            if file is not None:
                file.sync()

    def close(self) -> None:
        """Write everything out. Safe to call twice."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        files, text = (self._events, self._tensorboard), self._text
        self._events = self._tensorboard = None
        for file in files:
            if file is not None:
                file.close()
        self._say_notes()  # of what the two lack, in the third too
        self._text = None
        if text is not None:
            text.close()
        self._say_notes()
        if self._lock is not None:
            self._lock.release()
        try:
            self._console.flush()
        except OSError:  # a full disk, or nobody reads: Python's own end would fail on it
            reader_gone(self._console)

    def _say_notes(self) -> None:
        while self._notes:
            with contextlib.suppress(Stopped):  # the end is the end
                self.line(self._notes.pop(0))

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


@contextlib.contextmanager
def _or_refused(path: Path, advice: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(f"cannot write {path} ({error.strerror or error}); {advice}") from error


def _size_of_terminal() -> Dict[str, Any]:
    """As tqdm's options. One that does not know its size, as in some containers, is 80 x 24, or tqdm shows nothing."""
    try:
        columns, lines = os.get_terminal_size(sys.stderr.fileno())
    except (OSError, ValueError):
        columns = lines = 0
    return {"dynamic_ncols": True} if columns and lines else {"ncols": columns or 80, "nrows": lines or 24}


def _drop_events_after(path: Path, step: int) -> Set[int]:
    """Keep the whole lines of events.jsonl up to `step`; a line that a power cut left half-written goes too.

    The steps of which it has the evaluation.
    """
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


def _finite(value: Any) -> Any:
    """JSON has no NaN: what is not a number is null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
