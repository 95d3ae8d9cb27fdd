"""The page: made from the committed records and from a made-up run; what it shows, what it says is absent, escapes."""

from __future__ import annotations

import json
import re
import sys
import urllib.parse
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from shared.results.__main__ import find_records, main
from shared.results.course import MOST_POINTS
from shared.results.page.document import page
from shared.results.page.plots import held, inline
from shared.results.page.run_files import read_run
from shared.results.record import build_record, read_record, write_record
from shared.results.rows import rows
from shared.results.tables import render
from shared.run.example_predictions import MostConfident, write_examples
from shared.run.log import RunLog
from shared.schedules import Schedule
from shared.system import png
from tests.shared.run.test_example_predictions import look

ROOT = Path(__file__).resolve().parents[3]
HOSTILE = '<script>alert("1")</script>&\'"><img src=http://example.org/x>'
PIXELS = np.zeros((2, 2, 3), np.uint8)
VOID = {"meta", "br", "img", "hr", "link", "input"}


class Reader(HTMLParser):
    """Complains of elements that are not closed in their order; gathers attributes, ids and texts."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.elements, self.ids, self.targets, self.words, self.files = [], [], [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.handle_startendtag(tag, attributes)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append(tag)
        for name, value in attributes:
            held = tag == "img" and name == "src" and value.startswith("data:image/")
            assert held or name not in ("src", "srcset", "data", "action", "poster"), (tag, name, value)
            assert not name.startswith("on"), (tag, name)
            if name in ("href", "xlink:href"):
                csv = tag == "a" and value.startswith("data:text/csv;charset=utf-8,")
                assert csv or value.startswith("#"), (tag, value)
                self.files += [urllib.parse.unquote(value.partition(",")[2])] if csv else []
                self.targets += [] if csv else [value[1:]]
            if name == "id":
                self.ids.append(value)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, self.getpos()

    def handle_data(self, data):
        self.words.append(data)


def checked(text):
    """The page as read; asks nobody for anything, each id once, each anchor there."""
    reader = Reader(text)
    assert not {"script", "link", "iframe", "object", "embed", "base", "image"} & set(reader.elements)
    assert len(reader.ids) == len(set(reader.ids))
    assert set(reader.targets) | set(re.findall(r"url\(#([^)]*)\)", text)) <= set(reader.ids)
    assert not re.search(r"url\((?!#)|@import", text)
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:\"" in text
    return reader


def made_up(folder, name="run", events=None, config=None, **changes):
    """A run's folder with three classes."""
    run = folder / name
    run.mkdir(parents=True)
    parts = {
        "half": "tf_seresnet",
        "mode": "train",
        "network": "se_resnet11",
        "recipe": "sample",
        "seed": 3,
        "dataset": {"name": "three", "fingerprint": "abc"},
        "device": {"kind": "cpu", "name": "Small", "count": 1},
        "precision": "O0",
        "batch_size": 8,
        "global_batch_size": 8,
        "epochs_completed": 2,
        "steps_completed": 8,
        "images_trained": 64,
        "throughput": {"images_per_second": 100.0, "step_ms_p50": 80.0, "steps_timed": 7},
        "evaluation": {
            "images": 9,
            "loss": 0.5,
            "top1": 66.7,
            "top5": 100.0,
            "expected_calibration_error": 7.5,
            "reliability": {"images": [0, 9], "confidence": [None, 70.0], "accuracy": [None, 66.7]},
            "per_class_accuracy": [100.0, 66.7, None],
            "confusion": [[4, 0, 0], [1, 2, 2], [0, 0, 0]],
        },
        "versions": {"python": "3.11"},
        "started": "2024-01-02T03:04:05",
        "seconds": 3600.0,
        "commit": "c0ffee",
    }
    write_record(run / "result.json", build_record(**dict(parts, **changes)))
    if events is None:
        events = [
            {
                "event": "step",
                "step": step,
                "loss": 2.0 / step,
                "top1": 5.0 * step,
                "learning_rate": 0.1,
                "images_per_second": 90.0 + step,
                "data_wait_share": 0.01 * step,
            }
            for step in range(1, 9)
        ]
        events += [{"event": "evaluation", "step": step, "loss": 1.0, "top1": 8.0 * step} for step in (4, 8)]
    (run / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    (run / "config.json").write_text(json.dumps({"command": "python main.py --seed 3"} if config is None else config))
    most_confident = MostConfident()
    look(most_confident, [0, 1, 2], [[2.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 3.0, 0.0]], [0, 1, 1])
    names = ["one", HOSTILE, "three"]
    write_examples(run, RunLog(None), most_confident, names, lambda index: ("image/png", png.encode(PIXELS + index)))
    return run


def _page(*runs):
    return page(find_records([str(run) for run in runs]))


@pytest.mark.once
@pytest.mark.slow
def test_committed_records_and_a_run(tmp_path):
    runs = [made_up(tmp_path, name) for name in ("run", "more")]
    text = _page(*runs, ROOT / "results")
    words = " ".join(checked(text).words)
    for wanted in (
        "94.79",
        "SE-ResNet-110, CIFAR-10",
        "not measured",
        "airplane",
        "golf ball",
        "Compared",
        "python main.py --seed 3",
        "c0ffee",
        "runs have no curves",
        "no reliability diagram",
        "SE-ResNet-50, imagenette, 25 Nov 2026",
    ):
        assert wanted in words, wanted
    curves = ["Loss (nats)", "Top-1 accuracy (%)", "Learning rate", "Images per second", "Waiting for data (% of time)"]
    sections = re.split('<section [^>]*id="(compared|run-[0-9]+)"', text)
    titles = {name: re.findall('aria-label="([^"]*)"', part) for name, part in zip(sections[1::2], sections[2::2])}
    assert titles.pop("compared")[:5] == curves
    records = [read_record(path) for path in find_records([])]
    bins = ["reliability" in record["evaluation"] for record in records]
    assert {*bins} == {True, False}  # those without were written before the bins were kept
    drawn = [True, True] + ["curves" in record for record in records]
    assert list(titles.values()) == [
        curves * has_curves + ["Reliability diagram"] * has_bins + ["Confusion matrix"]
        for has_curves, has_bins in zip(drawn, [True, True, *bins])
    ]


@pytest.mark.once
def test_runs_are_compared_on_the_same_data(tmp_path):
    """And drawn together only there; a lone run is drawn in its own section."""
    sets = {"a": "three", "b": "cifar-10", "c": "three", "d": None}
    events = [{"event": "step", "step": 1, "loss": 1.0}]
    runs = [
        made_up(
            tmp_path,
            name,
            events if data == "three" else [],
            dataset={"name": data} if data else {},
            mode="train" if data else "benchmark",
            evaluation=None,
        )
        for name, data in sets.items()
    ]
    text = _page(*runs)
    compared = text[text.index('<section id="compared">') : text.index('<section id="tables">')]
    groups = re.split("<h3>(.*?)</h3>", compared)[1:]
    assert groups[::2] == ["three", "CIFAR-10", "no data set"]
    assert [re.findall(r'href="#run-(\d)"', group) for group in groups[1::2]] == [["0", "2"], ["1"], ["3"]]
    assert [group.count("<svg") for group in groups[1::2]] == [1, 0, 0]
    assert "SE-ResNet-11, three, 2 Jan, c" in checked(text).words


@pytest.mark.once
def test_it_is_the_same_every_time(tmp_path):
    run = made_up(tmp_path)
    assert _page(run) == _page(run)


def test_one_run_is_compared_with_none(tmp_path):
    text = _page(made_up(tmp_path))
    assert 'id="compared"' not in text
    assert "Results of 1 run<" in text
    assert "matplotlib" not in text
    assert not re.search(r"#0102[0-9a-f]{2}", text)  # every colour is the page's


@pytest.mark.once
def test_what_has_computed_a_run_is_named(tmp_path):
    hardware = "device cpu, AMD EPYC, threads 2"
    text = _page(made_up(tmp_path, begun_on=[hardware], earlier_commits=["bead", "fade"]))
    for name, value in {"commit": "c0ffee", "earlier commits": "bead; fade", "begun on": hardware}.items():
        assert f"<dt>{name}</dt><dd>{value}</dd>" in text


def test_what_comes_from_files_is_escaped(tmp_path):
    run = made_up(
        tmp_path,
        network=HOSTILE,
        recipe=HOSTILE,
        machine=HOSTILE,
        commit=HOSTILE,
        schedule=HOSTILE,
        precision=HOSTILE,
        dataset={"name": HOSTILE, "fingerprint": HOSTILE, "classes": [HOSTILE] * 3},
        device={"kind": "cpu", "name": HOSTILE, "count": 1},
        versions={HOSTILE: HOSTILE},
        config={"command": HOSTILE, HOSTILE: [HOSTILE, "\ud800", "\x1b"]},
    )
    named = run.with_name(HOSTILE.replace("/", "|"))
    run.rename(named)
    text = _page(named, made_up(tmp_path, "beside"))
    words = " ".join(checked(text).words)
    assert words.count('<script>alert("1")') > 15
    assert "<script" not in text
    text.encode("utf-8")


def test_curves_are_those_of_the_events(tmp_path):
    run = made_up(tmp_path)
    read = read_run(0, run / "result.json")
    assert read.missing == []
    assert read.steps_per_epoch == 4
    assert read.train["loss"] == [(step, 2.0 / step) for step in range(1, 9)]
    assert read.train["data_wait_share"][-1] == (8, 0.08)
    assert read.evaluation["top1"] == [(4, 32.0), (8, 64.0)]
    assert "top5" not in read.train


def test_curves_of_damaged_events(tmp_path):
    run = made_up(
        tmp_path,
        events=[
            {"event": "step", "step": 2, "loss": 1.0},
            {"event": "step", "step": 1, "loss": None},
            {"event": "step", "step": 2, "loss": 3.0},
            {"event": "step", "step": 3, "loss": 10**400, "top1": "much"},
            {"event": "step", "step": "4"},
            {"event": ["step"], "step": 5, "loss": 1.0},
            [1],
            {"event": "step"},
        ],
    )
    with (run / "events.jsonl").open("ab") as file:
        file.write(b'{"event": "step", "step": NaN}\n\xff\xfe\n' + b"[" * 100000 + b'\n{"event": "st')
    read = read_run(0, run / "result.json")
    loss = read.train["loss"]
    assert [step for step, _ in loss] == [1, 2, 3]
    assert loss[1] == (2, 3.0)
    assert [value != value for _, value in loss] == [True, False, True]
    assert set(read.train) == {"loss"}
    assert read.missing == ["7 damaged lines of events.jsonl left out."]
    assert "7 damaged lines" in " ".join(checked(_page(run)).words)


def test_long_curves_are_thinned(tmp_path):
    count = 10 * MOST_POINTS + 5
    run = made_up(tmp_path, events=[{"event": "step", "step": step, "loss": 1.0 * step} for step in range(count)])
    loss = read_run(0, run / "result.json").train["loss"]
    assert len(loss) <= MOST_POINTS + 1
    assert (loss[0], loss[-1]) == ((0, 0.0), (count - 1, count - 1.0))


@pytest.mark.once
@pytest.mark.parametrize("every", [1, 3, 4, 5])
def test_a_learning_rate_is_held_to_the_end_of_its_epoch(every):
    """As drawn, the rate of every step from the first logged one is the schedule's; steps count from 1."""
    per_epoch, schedule = 5, Schedule("cosine", 0.1, 6, 2)
    right = {step: schedule.at((step - 1) / per_epoch) for step in range(1, 6 * per_epoch + 1)}
    logged = [(step, rate) for step, rate in right.items() if step % every == 0]
    drawn = held(logged, per_epoch)
    shown = {step: next(rate for at, rate in drawn if at >= step) for step in range(every, logged[-1][0] + 1)}
    assert shown == {step: right[step] for step in shown}
    assert held(logged, None) == logged
    assert held([], per_epoch) == []


def test_no_mark_is_cut_off_at_the_edge(tmp_path):
    text = _page(made_up(tmp_path, events=[{"event": "evaluation", "step": step, "loss": 0.0} for step in (4, 8)]))
    (loss,) = re.findall('<svg role="img" aria-label="Loss.*?</svg>', text, re.DOTALL)
    assert loss.count("<use") > 2
    assert not re.search(r"<g clip-path=[^>]*>\s*<use", loss)


@pytest.mark.once
def test_the_tables_are_a_csv_file_too(tmp_path):
    run = made_up(tmp_path, events=[], evaluation=None, recipe=HOSTILE + "\ud800,é\n%")
    (file,) = checked(_page(run)).files
    assert file == render(rows([read_record(run / "result.json")]), "csv").replace("\ud800", "?")
    assert "é" in file


def test_examples(tmp_path):
    text = _page(made_up(tmp_path, evaluation={"images": 9, "loss": 1.0, "top1": 50.0}))
    words = " ".join(checked(text).words)
    assert text.count('<img src="data:image/png;base64,') == 3
    for wanted in (
        "Most confident correct predictions",
        "Most confident incorrect predictions",
        "predicted three, 57.6\xa0%",
        "correct, 78.7\xa0%",
        "Chosen from 3, the first process's share",
    ):
        assert wanted in words, wanted


@pytest.mark.once
def test_classes_are_named_as_the_record_does(tmp_path):
    """A folder called imagenette may hold other classes, and a network may know more than its data set has."""
    other = {"name": "imagenette", "classes": ["n02102040", "cat", "\udcff"]}
    text = _page(made_up(tmp_path, dataset=other, config={"data": other}))
    words = " ".join(checked(text).words)
    assert "English springer" in words
    assert "predicted \\udcff" in words
    assert "tench" not in words
    text.encode("utf-8")
    evaluation = {
        "images": 9,
        "loss": 0.5,
        "top1": 66.7,
        "per_class_accuracy": [100.0, 66.7, None],
        "confusion": [[4, 0, 0], [1, 2, 2], [0, 0, 0]],
        "classes": ["fish", "fowl", "beast"],
    }
    dataset = {"name": "three", "classes": ["beast", "fish"]}
    words = " ".join(checked(_page(made_up(tmp_path, "more", dataset=dataset, evaluation=evaluation))).words)
    assert "fowl" in words
    assert "1 class without images" in words


@pytest.mark.once
def test_known_classes_have_their_names(tmp_path):
    names = {"name": "cifar-10"}
    words = " ".join(checked(_page(made_up(tmp_path, dataset=names))).words)
    assert "automobile" in words
    assert "predicted bird" in words


@pytest.mark.once
@pytest.mark.parametrize(
    "change",
    [
        {"picture": "http://example.org/x.png"},
        {"picture": "data:text/html;base64,AAAA"},
        {"picture": 7},
        {"picture": 'data:image/png;base64,AAAA" onerror="x'},
        {"picture": "data:image/png;base64," + "A" * 300000},
        {"confidence": float("nan")},
        {"confidence": 101},
        {"confidence": "much"},
        {"label": "x"},
        {"answer": None},
    ],
    ids=lambda change: str(change)[:60],
)
def test_examples_that_are_damaged_or_hostile_are_left_out(tmp_path, change):
    run = made_up(tmp_path)
    content = json.loads((run / "examples.json").read_text())
    content["wrong"][0].update(change)
    (run / "examples.json").write_text(json.dumps(content))
    text = _page(run)
    assert "No example images: examples.json is damaged." in " ".join(checked(text).words)
    assert "<img" not in text


@pytest.mark.once
@pytest.mark.parametrize(
    "damage", ["", "7", "[]", "{}", "[" * 100000, '{"images": 1, "right": 3, "wrong": []}', "\xff"]
)
def test_a_file_of_examples_that_is_none(tmp_path, damage):
    run = made_up(tmp_path)
    (run / "examples.json").write_bytes(damage.encode("latin-1"))
    assert "No example images: examples.json is damaged." in " ".join(checked(_page(run)).words)


@pytest.mark.parametrize("damage", [None, "{", "[1]"])
def test_what_is_missing_is_named(tmp_path, damage):
    run = made_up(tmp_path, evaluation=None, throughput=None)
    (run / "events.jsonl").unlink()
    (run / "config.json").unlink() if damage is None else (run / "config.json").write_text(damage)
    words = " ".join(checked(_page(run)).words)
    assert "No curves: events.jsonl cannot be read" in words
    assert "No recipe and no command: config.json" in words
    assert "This run has no evaluation." in words
    assert "The command is in the run's config.json" in words


def test_many_classes(tmp_path):
    size = 40
    counts = [[3 * (row == column) + (row == 5 and column == 7) for column in range(size)] for row in range(size)]
    evaluation = {"images": 121, "loss": 1.0, "top1": 99.0, "confusion": counts, "per_class_accuracy": [99.0] * size}
    text = _page(made_up(tmp_path, evaluation=evaluation))
    words = " ".join(checked(text).words)
    assert "40 classes: only the most frequent confusions" in words
    assert "The 10 best and the 10 worst of 40 classes" in words
    assert "Confusion matrix" not in text
    assert "class 5" in words


@pytest.mark.once
def test_output_is_written_whole(tmp_path, capsys, monkeypatch):
    run = made_up(tmp_path)
    target = tmp_path / "page.html"
    assert main([str(run), "--format", "html", "--output", str(target)]) == 0
    assert capsys.readouterr().out == ""
    assert target.read_text(encoding="utf-8") == _page(run)
    assert main([str(run), "--format", "html", "--output", str(tmp_path / "none" / "page.html")]) == 2
    assert "cannot write" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main([str(run), "--format", "html"]) == 2
    assert "; pip install 'matplotlib>=" in capsys.readouterr().err


def test_inline_svg():
    svg = (
        '<?xml version="1.0"?>\n<!DOCTYPE svg>\n<svg width="9pt" height="9pt" viewBox="0 0 9 9">\n'
        "<metadata>x</metadata>"
        '<defs><style type="text/css">*{}</style><path id="m1" style="fill: #010203; stroke: #010204"/></defs>\n'
        '<g id="unused"><use xlink:href="#m1" clip-path="url(#m1)"/></g>'
        """<text style="font-size: 9px; font-family: 'One', serif; fill: #010203" x="1.23456">0.0001</text></svg>"""
    )
    assert inline(svg, "f7", "A title").replace("\n", "") == (
        '<svg role="img" aria-label="A title" viewBox="0 0 9 9"><defs><path id="f7-m1" style="fill: currentColor;'
        ' stroke: var(--grid)"/></defs><g><use xlink:href="#f7-m1" clip-path="url(#f7-m1)"/></g>'
        '<text style="font-size: 9px; font-family: var(--sans); fill: currentColor" x="1.23">0.0001</text></svg>'
    )
