"""The section of a run of check-port: a verdict that nothing can hide; several runs; broken and foreign files."""

from __future__ import annotations

import itertools
import json
import math
import re

import pytest

from shared.port_check.findings import Check, verdict
from shared.port_check.report import Comparison, LayerError, write
from shared.port_check.trace import Trace
from shared.results.__main__ import main
from shared.results.language import ENGLISH
from shared.results.page import Sheet
from shared.results.page.port_section import compared
from shared.results.page.run_files import read_runs
from shared.results.record import build_record, write_record
from shared.run.log import RunLog
from tests.shared.results.test_page import HOSTILE, _page, checked

pytestmark = pytest.mark.once
LAYERS = ("conv1", "layer1.0.bn1", "layer1.0.relu", "layer1.0.relu", "fc")
DEVICE = {"kind": "cpu", "name": "Small", "count": 1}


def comparison(faults=(), layers=LAYERS, text="a layer"):
    """Of a side with these (stage, layer, units) in place of clean ones."""
    worse = {(stage, layer): units for stage, layer, units in faults}
    checks = [
        Check(stage, layer, "output", text, worse.get((stage, layer), 0.25), 1e-7, "1 where 2 is right, at [0]")
        for stage in ("forward", "backward", "update")
        for layer in dict.fromkeys(layers)
    ]
    depth = [LayerError(layer, 1e-7, 2e-7, None if number == 2 else 3e-7, 4e-7) for number, layer in enumerate(layers)]
    return Comparison(verdict(checks), depth, {"side": [2.0, 1.5], "reference": [2.0, 1.25], "rounded": [2.0, 1.3]})


def port_run(folder, name="port", sides=None, description=None, **changes):
    """A run's folder of check-port, with the port.json of these sides."""
    run = folder / name
    run.mkdir(parents=True)
    described = {"half": "torch_imagenet", "precision": "O0", "device": DEVICE, "versions": {"torch": "2.6"}}
    described.update(description or {})
    with RunLog(None) as log:
        found = {"cpu (Small)": comparison()} if sides is None else sides
        write(run, log, ((side, Trace(described), one) for side, one in found.items()))
    parts = {"half": "torch_imagenet", "mode": "check-port", "network": "senet154", "device": DEVICE, "precision": "O0"}
    parts.update({"versions": {"torch": "2.6"}, "started": "2024-01-02T03:04:05", "seconds": 9.0, **changes})
    write_record(run / "result.json", build_record(**parts))
    (run / "config.json").write_text(json.dumps({"command": "python main.py check-port"}))
    return run


def test_a_run_that_agrees(tmp_path):
    text = _page(port_run(tmp_path))
    reader = checked(text)
    words = " ".join(reader.words)
    for wanted in ("✓ agrees", "rounding explains every difference", "Closest to the tolerance", "main.py check-port"):
        assert wanted in words, wanted
    for unwanted in ("differs", "no evaluation", "No learning curves", "Documented and measured", "Ports compared"):
        assert unwanted not in "".join(reader.words[reader.words.index("check-port · 1 x Small · port") :]), unwanted
    titles = re.findall(r'aria-label="([^"]*)"', text)
    assert titles == [
        "Error by depth, forward (%), logarithmic",
        "Error by depth, backward (%), logarithmic",
        "× rounding of each layer, logarithmic",
        "Loss of each step (nats)",
        "Distance from the reference's loss (nats)",
    ]
    assert "stroke: var(--bad)" not in text  # no bar is out of tolerance
    assert "1 conv1, 2-4 layer1, 5 fc" in words


def test_a_run_that_differs(tmp_path):
    faults = [("forward", "layer1.0.bn1", 1.00001), ("backward", "layer1.0.bn1", math.inf), ("update", "fc", 467.3)]
    text = _page(port_run(tmp_path, sides={"cpu (Small)": comparison(faults)}))
    words = " ".join(checked(text).words)
    for wanted in (
        "✗ differs",
        "first in layer1.0.bn1 output: a layer; 1 more out of tolerance by themselves",
        "Out of tolerance by themselves",
        "1.00001",
        "∞",
        "467.3",
        "Dotted: the first layer out of tolerance: 2, layer1.0.bn1.",
    ):
        assert wanted in words, wanted
    assert "✓ agrees" not in words
    assert text.count('<tr class="differs">') == 2  # of all layers
    assert "stroke: var(--bad)" in text


def test_a_fault_that_is_no_layers(tmp_path):
    found = comparison()
    whole = Check("loss", "", "loss", "cross-entropy", 3.0, 0.1, "1 where 2 is right")
    found = found._replace(verdict=verdict([*found.verdict.checks, whole]), by_depth=[])
    words = " ".join(checked(_page(port_run(tmp_path, sides={"cpu (Small)": found}))).words)
    assert "✗ differs" in words
    assert "first in loss" in words
    assert "Dotted" not in words


def test_many_causes_are_counted(tmp_path):
    layers = [f"layer{number}" for number in range(60)]
    side = {"cpu (Small)": comparison([("forward", layer, 2.0) for layer in layers], layers)}
    words = " ".join(checked(_page(port_run(tmp_path, sides=side))).words)
    assert "And 48 more, listed in port.json." in words
    assert "59 more out of tolerance by themselves" in words


def test_several_runs_are_compared(tmp_path):
    """One with a trace as its second side, one of another network, one without a verdict."""
    fault = comparison([("forward", "fc", 5.0)])
    one = port_run(tmp_path, "one", {"cpu (Small)": comparison(), "the trace T": fault})
    two = port_run(tmp_path, "two", {"npu:0 (Fast)": fault})
    other = port_run(tmp_path, "other", {"cpu (Small)": comparison(layers=("stem", "head"))})
    lost = port_run(tmp_path, "lost")
    (lost / "port.json").unlink()
    runs = read_runs([run / "result.json" for run in (one, two, other, lost)])
    sheet = Sheet(ENGLISH, itertools.count())
    section = compared(sheet, runs)
    marks = [re.findall("(agrees|differs|no verdict)</b>", row) for row in re.findall("<tr.*?</tr>", section)]
    assert marks == [[], ["agrees"], ["differs"], ["differs"], ["agrees"], ["no verdict"]]
    assert section.count("<svg") == 4  # of the three sides with the same layers
    assert "Only sides with the same layers are drawn together." in section
    assert compared(sheet, runs[:1]) == ""


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (None, "port.json cannot be read"),
        (b"", "port.json is damaged"),
        (b"[" * 100000, "port.json is damaged"),
        (b"\xff\x00", "port.json is damaged"),
        (b'{"schema": 1, "half": "torch_imagenet"}', "port.json is damaged (sides is missing)"),
        (b'"agrees": true', "agrees is True, and 1 comparisons are out of tolerance"),
        (b'"precision": "bf16"', "port.json is of another run, with precision bf16"),
    ],
)
def test_a_file_that_cannot_be_trusted_is_no_verdict(tmp_path, damage, said):
    run = port_run(tmp_path, sides={"cpu (Small)": comparison([("forward", "fc", 5.0)])})
    file = run / "port.json"
    if damage is None:
        file.unlink()
    elif damage.startswith(b'"agrees"'):
        file.write_bytes(file.read_bytes().replace(b'"agrees": false', damage, 1))
    elif damage.startswith(b'"precision"'):
        file.write_bytes(file.read_bytes().replace(b'"precision": "O0"', damage))
    else:
        file.write_bytes(damage)
    reader = checked(_page(run))
    assert said in "".join(reader.words)
    assert "? no verdict" in reader.words
    assert not {"✓ agrees", "✗ differs"} & set(reader.words)


def test_a_record_alone_has_no_verdict(tmp_path):
    run = port_run(tmp_path)
    (run / "result.json").rename(run / "record.json")
    words = " ".join(checked(_page(run / "record.json")).words)
    assert "? no verdict" in words
    assert "This is only the record" in words


def test_what_comes_from_the_file_is_escaped(tmp_path):
    layers = (HOSTILE, f"$\\frac{HOSTILE}", "\ud800")
    found = comparison([("forward", HOSTILE, 5.0)], layers, HOSTILE)
    described = {
        "versions": {HOSTILE: [HOSTILE]},
        "memory_format": {HOSTILE: 3},
        "layers": HOSTILE,
        "loss_scale": HOSTILE,
    }
    text = _page(port_run(tmp_path, sides={HOSTILE: found}, description=described))
    assert " ".join(checked(text).words).count('<script>alert("1")') > 10
    assert "<script" not in text
    text.encode("utf-8")


def test_the_tables_say_that_it_has_no_row(tmp_path, capsys):
    run = port_run(tmp_path)
    capsys.readouterr()
    assert main([str(run)]) == 0
    out, err = capsys.readouterr()
    assert "SENet154" in out
    assert err.startswith(f"note: {run / 'result.json'} is of the mode check-port, which has no accuracy")
    assert err.count("\n") == 1


@pytest.mark.slow
def test_the_page_of_a_large_network_is_small(tmp_path):
    """SENet154 has some 830 calls of layers and 6,000 comparisons."""
    layers = [f"layer{1 + number // 300}.{number}.conv" for number in range(830)]
    text = _page(port_run(tmp_path, sides={"cpu (Small)": comparison([("backward", layers[700], 2.0)], layers)}))
    assert len(text) < 400_000
    assert "701" in " ".join(checked(text).words)
