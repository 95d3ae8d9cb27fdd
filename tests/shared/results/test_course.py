"""What a published record keeps of its run: thinned curves and some examples, small, checked, and drawn as of a run."""

from __future__ import annotations

import json
import math
import os
import re

import pytest

from shared.errors import UsageError
from shared.results.__main__ import main
from shared.results.course import LARGEST, MOST_KEPT, VALUES, Course, with_course
from shared.results.page.run_files import read_run, to_publish
from shared.results.record import publish, read_record
from tests.shared.results.test_page import HOSTILE, _page, checked, made_up

pytestmark = pytest.mark.once


def _events(steps):
    values = dict.fromkeys(VALUES, 1 / 3)
    events = [{"event": "step", "step": step, **values, "loss": 7.123456789 / step} for step in range(1, steps + 1)]
    return events + [
        {"event": "evaluation", "step": 10 * step, "loss": 1.0, "top1": step / 3} for step in range(1, 161)
    ]


def _published(run, folder):
    return publish(to_publish(run / "result.json")[0], folder)


def test_a_short_run_keeps_every_point(tmp_path):
    run = made_up(tmp_path)
    target = _published(run, tmp_path / "results")
    live, kept = read_run(0, run / "result.json"), read_run(0, target)
    for name, curve in live.train.items():
        assert kept.train[name] == [(step, float(f"{value:.4e}")) for step, value in curve]
    assert kept.evaluation == live.evaluation
    assert set(live.train) == set(VALUES)
    shown = [{name: one[name] for name in one if name != "index"} for one in live.examples["right"]]
    assert [dict(one, confidence=round(one["confidence"], 2)) for one in shown] == kept.examples["right"]
    assert "thinned curves" in kept.missing[0]
    steps = read_record(target)["curves"]
    assert [(group["of"], len(group["step"])) for group in steps] == [("step", 8), ("evaluation", 2)]


def test_a_long_run_stays_small(tmp_path):
    run = made_up(tmp_path, events=_events(5000))
    examples = json.loads((run / "examples.json").read_text())
    entry = dict(examples["right"][0], picture="data:image/png;base64," + "A" * 2300)
    examples.update(right=[entry] * 8, wrong=[entry] * 8)
    (run / "examples.json").write_text(json.dumps(examples))
    target = _published(run, tmp_path / "results")
    assert 0.8 * LARGEST < os.path.getsize(str(target)) < 1.05 * LARGEST
    kept = read_run(0, target)
    assert {name: len(curve) for name, curve in kept.train.items()} == dict.fromkeys(VALUES, len(kept.train["loss"]))
    assert MOST_KEPT / 2 <= len(kept.train["loss"]) <= MOST_KEPT + 1
    first, last = kept.train["loss"][0], kept.train["loss"][-1]
    assert (first, last) == ((1, 7.1235), (5000, pytest.approx(7.123456789 / 5000, rel=1e-4)))
    shown = [len(kept.examples[kind]) for kind in ("right", "wrong")]
    assert 1 <= shown[1] <= shown[0] <= shown[1] + 1 < 9


def test_a_gap_stays_a_gap(tmp_path):
    events = [{"event": "step", "step": step, "loss": None if step == 2 else 1.0} for step in (1, 2, 3)]
    target = _published(
        made_up(tmp_path, events=[*events, {"event": "step", "step": 2, "top1": 5.0}]), tmp_path / "results"
    )
    kept = read_run(0, target)
    assert [(step, math.isnan(value)) for step, value in kept.train["loss"]] == [(1, False), (2, True), (3, False)]
    assert kept.train["top1"] == [(2, 5.0)]


def test_the_page_draws_it_as_of_a_run(tmp_path):
    events = [{"event": "step", "step": step, "loss": 0.25 * step} for step in range(1, 9)]
    run = made_up(tmp_path, events=events, evaluation={"images": 9, "loss": 0.5, "top1": 66.7})
    live, kept = _page(run), _page(_published(run, tmp_path / "results"))
    for part in (r'aria-label="[^"]*"', "<img [^>]*>", "<path d=[^>]*>"):
        assert re.findall(part, live) == re.findall(part, kept), part
    words = " ".join(checked(kept).words)
    assert "This is a published record" in words
    assert "only a record" not in words


def test_the_command_publishes_and_says_what_is_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("shared.results.__main__.COMMITTED", tmp_path / "results")
    runs = [made_up(tmp_path, "a"), made_up(tmp_path, "b", started="2024-01-02T04:04:05")]
    (runs[1] / "events.jsonl").unlink()
    assert main(["--publish", *map(str, runs)]) == 0
    out, err = capsys.readouterr()
    records = [read_record(path) for path in out.split("\n")[:-1]]
    assert [set(record) & {"curves", "examples"} for record in records] == [{"curves", "examples"}, {"examples"}]
    assert err.startswith(f"note: {runs[1] / 'result.json'}: No curves: events.jsonl cannot be read")
    assert err.count("\n") == 1


def test_a_matrix_of_very_many_classes_is_left_out():
    for size, left in ((100, True), (101, False)):
        record = {"evaluation": {"top1": 1.0, "confusion": [[0] * size] * size}}
        assert ("confusion" in with_course(record, Course({}, {}, None))["evaluation"]) == left
        assert "confusion" in record["evaluation"]


CURVES = {"of": "step", "step": [1, 2], "loss": [1.0, None]}


@pytest.mark.parametrize(
    "change",
    [
        {"of": "training"},
        {"step": [1]},
        {"step": [1, None]},
        {"step": [1, True]},
        {"loss": [1.0, HOSTILE]},
        {"loss": [1.0, float("nan")]},
        {"loss": 3},
        {HOSTILE: [1, 2]},
    ],
    ids=lambda change: str(change)[:30],
)
def test_curves_that_are_none_are_refused(tmp_path, change):
    file = made_up(tmp_path) / "result.json"
    record = json.loads(file.read_text())
    for curves in (7, [7], [{"of": "step"}], [{**CURVES, **change}]):
        file.write_text(json.dumps({**record, "curves": curves}))
        with pytest.raises(UsageError, match="not curves"):
            read_record(file)
    file.write_text(json.dumps({**record, "curves": [CURVES]}))
    assert read_run(0, file).train["loss"][0] == (1, 1.0)


@pytest.mark.parametrize("picture", ["http://example.org/x.png", 'data:image/png;base64,AA" onerror="x'])
def test_examples_that_are_hostile_are_refused(tmp_path, picture):
    file = made_up(tmp_path) / "result.json"
    examples = json.loads(file.with_name("examples.json").read_text())
    examples["right"][0]["picture"] = picture
    file.write_text(json.dumps({**json.loads(file.read_text()), "examples": examples}))
    with pytest.raises(UsageError, match="not examples"):
        read_record(file)
