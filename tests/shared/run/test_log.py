"""One writer: what stands in train.log, events.jsonl, TensorBoard's files and on the console."""

from __future__ import annotations

import datetime
import fcntl
import io
import json
import math
import os
import pty
import struct
import subprocess
import sys
import termios
import types
from pathlib import Path

import numpy as np
import pytest

from shared.errors import UsageError
from shared.run.log import RunLog, now
from shared.system.signals import Stopped


@pytest.fixture
def console():
    return io.StringIO()


def events(folder):
    """The objects of events.jsonl; a line that is no strict JSON fails."""

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    lines = (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line, parse_constant=refuse) for line in lines]


# -- text ------------------------------------------------------------------------------------------------------


def test_a_line_goes_to_the_console_and_to_train_log_at_once(tmp_path, console):
    with RunLog(tmp_path, console=console) as log:
        log.line("grün: 1")
        # Read before close: someone follows the file, or the machine goes down.
        assert (tmp_path / "train.log").read_text(encoding="utf-8") == "grün: 1\n"
        assert console.getvalue().endswith("grün: 1\n")
        log.line("epoch: 2")
    assert (tmp_path / "train.log").read_text(encoding="utf-8") == "grün: 1\nepoch: 2\n"


def test_a_reader_that_is_gone_stops_the_run_and_the_line_is_kept(tmp_path):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream, RunLog(tmp_path, console=stream) as log:
        with pytest.raises(Stopped) as caught:
            log.line("epoch: 1")
        log.line("stopped at step 3")  # the way out may speak
    assert caught.value.exit_status == 141
    assert (tmp_path / "train.log").read_text() == "epoch: 1\nstopped at step 3\n"


def test_a_resumed_run_goes_on_in_the_same_train_log(tmp_path, console):
    for number in range(2):
        with RunLog(tmp_path, resumed_from_step=number, console=console) as log:
            log.line(f"run {number}")
    assert (tmp_path / "train.log").read_text() == "run 0\nrun 1\n"


def test_without_a_folder_there_is_the_console_alone(tmp_path, console, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with RunLog(None, console=console) as log:
        log.line("text")
        log.event("step", 1, {"loss": 0.5}, {"train/loss": 0.5})
        log.advance_bar()
    assert console.getvalue() == "text\n"
    assert list(tmp_path.iterdir()) == []


def test_the_console_is_standard_output_unless_given(capsys):
    with RunLog(None) as log:
        log.line("text")
    assert capsys.readouterr() == ("text\n", "")


def test_closing_twice_and_writing_afterwards_does_no_harm(tmp_path, console):
    log = RunLog(tmp_path, console=console)
    log.close()
    log.close()
    log.line("afterwards")
    log.event("step", 1, {})
    assert console.getvalue().endswith("afterwards\n")
    assert events(tmp_path) == []


# -- events ----------------------------------------------------------------------------------------------------


def test_an_event_is_one_json_object_a_line(tmp_path, console):
    with RunLog(tmp_path, console=console) as log:
        log.event("step", 3, {"loss": 0.1 + 0.2, "epoch": 1})
        assert len(events(tmp_path)) == 1  # written at once
        log.event("evaluation", 4, {"top1": np.float64(12.5)})
    first, second = events(tmp_path)
    time = datetime.datetime.fromisoformat(first.pop("time"))
    assert time.utcoffset() == datetime.timedelta(0)
    assert first == {"event": "step", "step": 3, "loss": 0.1 + 0.2, "epoch": 1}
    assert (second["event"], second["step"], second["top1"]) == ("evaluation", 4, 12.5)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float64("nan")])
def test_what_is_no_number_is_null(tmp_path, console, value):
    with RunLog(tmp_path, console=console) as log:
        log.event("step", 1, {"loss": value})
    assert events(tmp_path)[0]["loss"] is None


def test_now_is_utc_to_the_second():
    stamp = datetime.datetime.fromisoformat(now())
    assert stamp.microsecond == 0
    assert abs(datetime.datetime.now(datetime.timezone.utc) - stamp) < datetime.timedelta(seconds=5)


def test_a_resumed_run_drops_the_events_beyond_its_step(tmp_path, console):
    with RunLog(tmp_path, console=console) as log:
        for step in range(1, 7):
            log.event("step", step, {"run": 1})
    with RunLog(tmp_path, resumed_from_step=4, console=console) as log:
        for step in range(5, 8):
            log.event("step", step, {"run": 2})
    steps_and_runs = [(event["step"], event["run"]) for event in events(tmp_path)]
    assert steps_and_runs == [(step, 1 if step <= 4 else 2) for step in range(1, 8)]


def test_a_new_run_in_an_old_folder_starts_its_events_anew(tmp_path, console):
    for run in (1, 2):
        with RunLog(tmp_path, console=console) as log:
            log.event("step", 1, {"run": run})
    assert [event["run"] for event in events(tmp_path)] == [2]


SPOILED = ('{"event": "step", "st', "\x00\x00\x00", "7\n", "[]\n", '{"event": "no step"}\n', '{"step": null}\n')


@pytest.mark.parametrize("rest", SPOILED)
def test_a_line_that_a_power_cut_spoiled_is_dropped(tmp_path, console, rest):
    whole = '{"event": "step", "step": 1}\n'
    (tmp_path / "events.jsonl").write_text(whole + rest)
    with RunLog(tmp_path, resumed_from_step=9, console=console) as log:
        log.event("step", 10, {})
    assert [event["step"] for event in events(tmp_path)] == [1, 10]
    assert (tmp_path / "events.jsonl").read_text().startswith(whole)


# -- progress bar ----------------------------------------------------------------------------------------------


class Bar:
    """Takes the place of tqdm's, and remembers what was asked of it."""

    made: list = []

    def __init__(self, **settings):
        self.settings, self.calls = settings, []
        Bar.made.append(self)

    def __getattr__(self, name):
        return lambda *values, **named: self.calls.append((name, values))


@pytest.fixture
def bars(monkeypatch):
    monkeypatch.setattr(Bar, "made", [])
    module = types.ModuleType("tqdm")
    module.tqdm = Bar
    monkeypatch.setitem(sys.modules, "tqdm", module)
    return Bar.made


def _standard_error(monkeypatch, terminal):
    stream = io.StringIO()
    stream.isatty = lambda: terminal
    monkeypatch.setattr(sys, "stderr", stream)
    return stream


def test_no_bar_where_standard_error_is_no_terminal(monkeypatch, console, bars):
    stream = _standard_error(monkeypatch, terminal=False)
    with RunLog(None, console=console) as log:
        log.start_bar(10, 0)
        log.advance_bar("epoch: 1/1", {"loss": "0.5"})
    assert bars == []
    assert stream.getvalue() == console.getvalue() == ""


def test_a_bar_on_a_terminal(monkeypatch, console, bars):
    _standard_error(monkeypatch, terminal=True)
    with RunLog(None, console=console) as log:
        log.start_bar(10, 4)
        log.advance_bar()
        log.advance_bar("epoch: 1/1", {"loss": "0.5"})
        log.line("text")
    (bar,) = bars
    assert (bar.settings["total"], bar.settings["initial"]) == (10, 4)
    named = [name for name, _ in bar.calls]
    assert named == ["update", "set_description_str", "set_postfix", "update", "clear", "close"]
    assert bar.calls[1:3] == [("set_description_str", ("epoch: 1/1",)), ("set_postfix", ({"loss": "0.5"},))]
    assert [values for name, values in bar.calls if name == "update"] == [(1,), (1,)]


@pytest.mark.parametrize("size", [(0, 0), (80, 0), (0, 24), (100, 30)])
def test_the_bar_is_seen_on_a_terminal_of_any_size(size):
    """By tqdm itself: a terminal that says 0 lines or columns made it hide the bar."""
    pytest.importorskip("tqdm")
    program = (
        "from shared.run.log import RunLog\n"
        "with RunLog(None) as log:\n"
        "    log.start_bar(10, 0)\n"
        "    log.advance_bar('epoch 1/90', {'loss': '0.5'})\n"
    )
    ours, theirs = pty.openpty()
    columns, lines = size
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    subprocess.check_call([sys.executable, "-c", program], stderr=theirs, cwd=str(Path(__file__).parents[3]))
    os.close(theirs)
    assert b"0/10" in os.read(ours, 10_000)
    os.close(ours)


def test_no_bar_and_no_failure_without_tqdm(monkeypatch, console):
    _standard_error(monkeypatch, terminal=True)
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with RunLog(None, console=console) as log:
        log.start_bar(10, 0)
        log.advance_bar("", {"loss": "0.5"})
        log.line("text")
    assert console.getvalue() == "text\n"


def test_the_text_goes_where_the_user_wants_it(tmp_path):
    with RunLog(tmp_path, console=io.StringIO(), text_file=str(tmp_path / "mine.txt")) as log:
        log.line("here")
    assert (tmp_path / "mine.txt").read_text() == "here\n"
    assert not (tmp_path / "train.log").exists()


def test_a_text_file_that_cannot_be_written_is_the_users_mistake(tmp_path):
    with pytest.raises(UsageError, match="cannot write .*nowhere.*; .*choose another --log-file"):
        RunLog(tmp_path, console=io.StringIO(), text_file=str(tmp_path / "nowhere" / "mine.txt"))


def test_an_evaluation_that_is_done_once_more_is_logged_once(tmp_path, console):
    """A run that ended between its evaluation and the checkpoint that follows evaluates again when it goes on."""
    for resumed_from_step in (0, 3):
        with RunLog(tmp_path, resumed_from_step, console=console) as log:
            if not resumed_from_step:
                log.event("step", 3, {})
            log.event("evaluation", 3, {"top1": 50.0})
            log.event("evaluation", 6, {"top1": 60.0})
    assert [event["step"] for event in events(tmp_path)] == [3, 3, 6]
