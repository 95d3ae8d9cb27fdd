"""--format events: the numbers of events.jsonl as CSV, in the same columns whatever the run."""

from __future__ import annotations

import csv
import io
import json
import math

import pytest

from shared.metrics import Metrics
from shared.results.__main__ import main
from shared.results.events import COLUMNS
from shared.run.log import RunLog

STEP = {"epoch": 1, "loss": 0.1 + 0.2, "step_loss": math.nan, "top1": 12.5, "top5": 50.0, "learning_rate": 1e-7}


@pytest.fixture
def run(tmp_path):
    """run(name, **more) -> the folder of a run with a logged step and an evaluation."""

    def write(name, **more):
        folder = tmp_path / name
        folder.mkdir()
        with RunLog(folder) as log:
            log.event("step", 10, {**STEP, **more})
            metrics = Metrics(2)
            metrics.update([[1.0, 0.0]], [0])
            log.evaluation(10, metrics, 1)
        return folder

    return write


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_the_cells_are_the_numbers_of_the_file(run, capsys):
    folder = run("one", images_per_second=7.25)
    assert main([str(folder), "--format", "events"]) == 0
    text = capsys.readouterr().out
    assert text.splitlines()[0] == ",".join(COLUMNS)
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["event"] for row in rows_of(text)] == ["step", "evaluation"]
    for row, event in zip(rows_of(text), events):
        assert row["run"] == str(folder)
        for name in COLUMNS[1:]:
            value = event.get(name)
            assert row[name] == "" if value is None else (row[name] == value or float(row[name]) == value), name
    assert rows_of(text)[0]["loss"] == "0.30000000000000004"
    assert rows_of(text)[0]["step_loss"] == ""


def test_a_folder_of_runs_and_a_file_to_write(run, tmp_path, capsys):
    run("b", loss_scale=2.0)
    run("a", something=3)
    output = tmp_path / "events.csv"
    assert main([str(tmp_path), "--format", "events", "--output", str(output)]) == 0
    assert capsys.readouterr().out == ""
    rows = rows_of(output.read_text(encoding="utf-8"))
    assert list(rows[0]) == [*COLUMNS, "something"]
    assert [row["run"] for row in rows] == [str(tmp_path / name) for name in "aabb"]


def test_damaged_lines_are_counted_and_left_out(run, capsys):
    folder = run("one")
    with (folder / "events.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"event": "st\n[1]\n{"event": "step"}\n{"event": "step", "step": 11, "loss": [1], "x": {}}\n')
    assert main([str(folder / "events.jsonl"), "--format", "events"]) == 0
    said = capsys.readouterr()
    assert [row["step"] for row in rows_of(said.out)] == ["10", "10", "11"]
    assert said.err == f"note: 3 damaged lines of {folder / 'events.jsonl'} left out\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--format events needs runs; name their folders"),
        (["gone"], "no events.jsonl in gone; name a run's folder"),
        (["."], "no events.jsonl in .; name a run's folder"),
    ],
)
def test_no_events_are_one_line(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*words, "--format", "events"]) == 2
    assert capsys.readouterr().err == f"error: {message}\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--publish R --update-readme F", "--publish does not go with --update-readme"),
        ("--publish R --check F", "--publish does not go with --check"),
        ("--update-readme F --output O", "--update-readme does not go with --output"),
        ("--update-readme F --format html", "--update-readme does not go with --format"),
        ("--check F --output O", "--check does not go with --output"),
        ("--format events --lang zh", "--lang is not for events"),
    ],
)
def test_an_option_without_effect_is_refused(words, said, run, tmp_path, capsys):
    folder = run("run")
    places = {"R": str(folder), "F": str(tmp_path / "F.md"), "O": str(tmp_path / "O.txt")}
    assert main([places.get(word, word) for word in words.split()]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {said}")
    assert error.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]
