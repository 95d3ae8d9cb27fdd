"""The ports' own greps and awks on the logs of short runs: they find the numbers of the record."""

from __future__ import annotations

import json
import math
import re
import shlex
import subprocess

import pytest

torch = pytest.importorskip("torch")

# What each port's launchers read from test/output/<id>/train_<id>.log, as their documents describe it.
SENET154 = {
    "FPS": "grep -a 'Training Epoch' {} | awk 'END {{print $NF}}'",
    "accuracy": "grep -a 'Acc@1' {} | awk 'END {{print}}' | awk -F 'Acc@1: ' '{{print $NF}}' | awk '{{print $1}}'",
}
SE_RESNET50 = {
    "FPS": "grep -a 'FPS@all' {} | awk 'END {{print $NF}}'",
    "accuracy": "grep -a 'Acc@1' {} | awk 'END {{print}}' | awk -F 'Acc@1 ' '{{print $NF}}' | awk '{{print $1}}'",
    "losses": "grep Loss {} | grep -v Test | awk -F 'Loss ' '{{print $NF}}' | awk '{{print $1}}'",
}
PNASNET = {
    "rate": "tail -n 1 {} | awk '{{print $1}}'",
    "training loss": "tail -n 1 {} | awk '{{print $2}}'",
    "loss": "tail -n 1 {} | awk '{{print $3}}'",
    "training accuracy": "tail -n 1 {} | awk '{{print $4}}'",
    "accuracy": "tail -n 1 {} | awk '{{print $5}}'",
    "FPS": "tail -n 1 {} | awk '{{print $6}}'",
}
PNASNET_EVALUATION = {"loss": "tail -n 1 {} | awk '{{print $1}}'", "accuracy": "tail -n 1 {} | awk '{{print $2}}'"}
PORTS = {"senet154": SENET154, "se_resnet50": SE_RESNET50, "se_resnet50_caffe": SE_RESNET50, "pnasnet5large": PNASNET}
OPTIONS = {
    "senet154": ("--recipe", "senet154_1p"),
    "se_resnet50": (),
    "se_resnet50_caffe": ("--network", "se_resnet50_caffe"),
    "pnasnet5large": ("--recipe", "pnasnet5large_1p", "--auxiliary-weight", "0"),  # the small network has no such head
}


def found(pattern, log):
    """What the shell finds, one text per line."""
    command = pattern.format(shlex.quote(str(log)))
    return subprocess.run(
        ["bash", "-c", command], check=True, universal_newlines=True, stdout=subprocess.PIPE
    ).stdout.split()


def number(pattern, log):
    (text,) = found(pattern, log)
    return float(text)


@pytest.fixture(scope="module")
def trained(run_in, tmp_path_factory):
    """trained(network) -> its run of two epochs of five steps, of which the first are the warm-up."""
    runs = {}

    def once(network):
        if network not in runs:
            folder = tmp_path_factory.mktemp("runs") / network
            runs[network] = run_in(folder, *OPTIONS[network])
            assert runs[network].status == 0
        return runs[network]

    return once


@pytest.mark.parametrize("network", PORTS)
def test_the_ports_own_patterns_find_throughput_and_accuracy(trained, network):
    run, patterns = trained(network), PORTS[network]
    log, record = run.folder / "train.log", run.record
    rate = record["throughput"]["images_per_second"]
    assert record["throughput"]["steps_timed"] == 5  # the second epoch, so that its rate is the run's
    assert number(patterns["FPS"], log) == pytest.approx(rate, abs=0.00051)
    assert number(patterns["accuracy"], log) == pytest.approx(record["evaluation"]["top1"], abs=0.00051)


def test_se_resnet50s_pattern_finds_the_loss_of_every_step(trained):
    run = trained("se_resnet50")
    losses = [float(text) for text in found(SE_RESNET50["losses"], run.folder / "train.log")]
    assert losses == pytest.approx([event["step_loss"] for event in run.events("step")], rel=6e-5)
    assert len(losses) == 10


def test_pnasnets_last_row_has_the_run(trained):
    run = trained("pnasnet5large")
    record, log = run.record, run.folder / "train.log"
    last = run.events("step")[-1]
    assert number(PNASNET["rate"], log) == pytest.approx(last["learning_rate"], abs=1e-6)
    assert number(PNASNET["training loss"], log) == pytest.approx(record["train"]["loss"], abs=1e-6)
    assert number(PNASNET["loss"], log) == pytest.approx(record["evaluation"]["loss"], abs=1e-6)
    assert number(PNASNET["training accuracy"], log) == pytest.approx(record["train"]["top1"], abs=1e-6)
    rows = [line for line in log.read_text().splitlines() if re.fullmatch(r"([\d.]+|nan)\t.*\t", line)]
    assert len(rows) == 2  # one per epoch
    assert math.isnan(float(rows[0].split()[5]))  # all of the first epoch is warm-up


STEPS = {
    "senet154": r"E\d+-B\d+/5\t\tTime: (\S+)\tFPS: (\S+)\tLoss: \S+\tAcc@1: \S+\tAcc@5: \S+\tData: \S+%",
    "se_resnet50": r"Epoch: \[\d\]\[\d/5\]\tTime +(\S+) \( *\S+\)\tData +\S+ \( *\S+\)\tLoss \S+ \(\S+\)\tAcc@1 .*\)",
    "pnasnet5large": r"\(\d/5\) \| Batch: (\S+)s \| Total: 0:00:\d\d \| OldLoss:  \S+ \|Loss: .* \| fps:  (\S+) ",
}
RATES = {
    "senet154": "Learning rate of epoch #1 is 0.03750",
    "se_resnet50": "=> Epoch[0] Setting lr: 0.0500",
    "pnasnet5large": "=> Epoch[0] Setting lr: 0.1600",  # the document's 0.32 on another device than an NPU
}


@pytest.mark.parametrize("network", STEPS)
def test_every_step_has_its_ports_line_in_the_warm_up_too(trained, network):
    lines = (trained(network).folder / "train.log").read_text().splitlines()
    steps = [match for match in (re.fullmatch(STEPS[network], line) for line in lines) if match]
    assert len(steps) == 10
    assert all(float(value) > 0 for match in steps for value in match.groups())
    assert RATES[network] in lines


@pytest.mark.parametrize("network", PORTS)
def test_the_patterns_on_the_log_of_an_evaluation(run_in, trained, tmp_path, tiny, network):
    run = trained(network)
    words = ["--checkpoint", str(run.folder), "--device", "cpu", "--output-dir", str(tmp_path / "evaluated")]
    assert run_in(tmp_path / "evaluated", *words, mode="evaluate", plain=True).status == 0
    log = tmp_path / "evaluated" / "train.log"
    evaluation = json.loads((tmp_path / "evaluated" / "result.json").read_text())["evaluation"]
    patterns = PNASNET_EVALUATION if network == "pnasnet5large" else PORTS[network]
    assert number(patterns["accuracy"], log) == pytest.approx(evaluation["top1"], abs=0.00051)
    if "loss" in patterns:
        assert number(patterns["loss"], log) == pytest.approx(evaluation["loss"], abs=1e-6)


def test_the_console_ends_as_the_log_does(run_in, tmp_path, capsys):
    """A launcher's train_0.log is the console's output."""
    assert run_in(tmp_path / "run", *OPTIONS["pnasnet5large"], "--max-steps", "1").status == 0
    log = (tmp_path / "run" / "train.log").read_text()
    assert capsys.readouterr().out.splitlines()[-2:] == log.splitlines()[-2:]
    header, row = log.splitlines()[-2:]
    assert header.split("\t")[:6] == "Learning Rate,Train Loss,Valid Loss,Train Acc.,Valid Acc.,Training FPS".split(",")
    assert len(row.split()) == 6
