"""benchmark, profile, and the command line itself."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from torch_imagenet import options as options_module
from torch_imagenet.main import MODES, main
from torch_imagenet.options import RunConfig, parser

ROOT = Path(__file__).resolve().parents[2]
SMALL = "--network se_resnet50 --image-size 32 --batch-size 2 --device cpu --max-steps 2 --num-classes 5".split()


def test_benchmark_measures_forward_and_training(run_in, tmp_path):
    run = run_in(tmp_path / "run", *SMALL, plain=True, mode="benchmark")
    assert run.status == 0
    record = run.record
    assert record["mode"] == "benchmark"
    assert record["throughput"]["steps_timed"] == record["forward"]["steps_timed"] == 2
    assert record["throughput"]["images_per_second"] > 0
    assert record["memory_format"] == "channels_last"


def test_profile_writes_a_trace_that_chrome_reads(run_in, tmp_path, capsys):
    run = run_in(tmp_path / "run", *SMALL, plain=True, mode="profile")
    assert run.status == 0
    trace = json.loads((run.folder / "output.prof").read_text())
    assert any("convolution" in event.get("name", "") for event in trace["traceEvents"])
    lines = capsys.readouterr().out.splitlines()
    header = next(number for number, line in enumerate(lines) if line.startswith("operator "))
    assert len([line for line in lines[header + 1 : header + 11] if "%" in line]) == 10
    assert "convolution" in "\n".join(lines[header + 1 : header + 11])


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["--opt-level", "O1"], "precision", "O1"),
        (["--amp"], "precision", "O2"),
        (["--loss-scale", "128"], "loss_scale", "128"),
        (["--lr-step-n", "30"], "period", 30),
        (["--lr-step-gamma", "0.1"], "factor", 0.1),
        (["--mom", "0.8"], "momentum", 0.8),
        (["--data", "D"], "data_path", "D"),
        (["--data_path=D"], "data_path", "D"),
        (["-b", "7"], "batch_size", 7),
        (["-b7"], "batch_size", 7),
        (["-j", "3"], "workers", 3),
        (["--use_aux"], "auxiliary_weight", 0.4),
        (["--wd-all"], "decayed", "all"),
        (["--manualSeed", "3"], "seed", 3),
        (["-e"], "mode", "evaluate"),
        (["--profile"], "mode", "profile"),
        (["--warm_up_epochs", "5"], "warm_up_epochs", 5),
        (["--label-smoothing-factor", "0.1"], "label_smoothing", 0.1),
        (["--randaugment", "2,9"], "randaugment", (2, 9)),
    ],
)
def test_a_documented_spelling_reaches_its_option(words, name, value):
    assert getattr(RunConfig.from_argv(words), name) == value


def test_every_option_is_a_field_of_the_configuration_and_no_one_assigns_to_it():
    fields = {field.name for field in dataclasses.fields(RunConfig)}
    options = {action.dest for action in parser()._actions} - {"help", "version", "mode_flag"}
    assert fields - {"argv", "command_notes"} == options
    config = RunConfig.from_argv(["--resume", "runs/one"])
    assert config.argv == ("--resume", "runs/one")
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.resume = None
    assert tuple(MODES) == options_module.MODES


def test_help_is_grouped_and_says_what_there_is(capsys):
    with pytest.raises(SystemExit) as end:
        main(["train", "--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    for words in ("what to run:", "data:", "network:", "training:", "device:", "output:", "--network", "senet154"):
        assert words in text, words
    assert "--lr" not in text
    assert all(len(line) <= 120 for line in text.splitlines())


def test_an_unknown_flag_is_refused_with_the_nearest(capsys):
    assert main(["--label-smothing", "0.1"]) == 2
    assert capsys.readouterr().err == "error: unknown option --label-smothing; did you mean '--label-smoothing'?\n"


def test_the_command_line_needs_no_torch():
    """--help and the nearest word work in a Python that has none; a mode then says what to install."""
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from torch_imagenet.main import main\n"
        "sys.exit(main(sys.argv[2:]))"
    )
    command = [sys.executable, "-c", program, str(ROOT)]
    helped = subprocess.run([*command, "--help"], capture_output=True, text=True, check=False)
    assert helped.returncode == 0, helped.stderr
    started = subprocess.run([*command, "train"], capture_output=True, text=True, check=False)
    assert started.returncode == 2
    assert started.stderr.startswith("error: ")
    assert "pip install -r requirements/torch.txt" in started.stderr


def test_the_words_of_the_command_line_are_those_of_the_program():
    """The command line is read without torch, so it lists them itself."""
    pytest.importorskip("torch")
    from torch_imagenet.devices import device as devices
    from torch_imagenet.devices import precision

    assert tuple(devices.MEMORY_FORMATS) == options_module.MEMORY_FORMATS
    assert tuple(precision.PRECISIONS) == options_module.PRECISIONS
