"""The mode check-port from the command line: exit status, files, and a trace that is carried to another machine."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any, Callable, List

import pytest
import torch

from shared.port_check.trace import read_trace, write_trace
from shared.results.record import read_record

OPTIONS = ["--batch-size", "4", "--image-size", "32", "--max-steps", "2"]


@pytest.fixture(scope="module")
def recorded(run_in: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run of a clean port, and its trace."""
    folder = tmp_path_factory.mktemp("port")
    files = ["--save-trace", str(folder / "a.trace"), "--msprobe", str(folder / "dump")]
    run = run_in(folder / "run", *OPTIONS, *files, mode="check-port")
    assert run.status == 0
    return folder


def test_a_clean_port_leaves_a_report_and_a_record(recorded: Path) -> None:
    (side,) = json.loads((recorded / "run" / "port.json").read_text())["sides"].values()
    assert side["agrees"] is True
    assert side["causes"] == []
    assert len(side["losses"]["side"]) == len(side["losses"]["reference"]) == 2
    assert {row["layer"] for row in side["error_by_depth"]} >= {"stem.0", "fc"}
    assert read_record(recorded / "run" / "result.json")["mode"] == "check-port"
    log = (recorded / "run" / "train.log").read_text()
    assert "agrees: rounding explains every difference" in log


def test_a_trace_of_another_machine_is_compared_on_its_weights_batch_and_recipe(
    recorded: Path, run_in: Callable[..., Any], tmp_path: Path
) -> None:
    other = ["--seed", "7", "--learning-rate", "0.7", "--against", str(recorded / "a.trace")]
    run = run_in(tmp_path / "run", *OPTIONS, *other, mode="check-port")
    assert run.status == 0
    sides = json.loads((tmp_path / "run" / "port.json").read_text())["sides"]
    assert [side["agrees"] for side in sides.values()] == [True, True]
    first, second = (side["losses"]["side"] for side in sides.values())
    assert first == second  # the same machine, weights and batch


def test_a_trace_is_compared_by_its_own_recipe(
    recorded: Path, run_in: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where it says that its inputs were not normalised, these would have had to be others."""
    trace = read_trace(recorded / "a.trace")
    trace.description["recipe"]["normalisation"] = "none"
    write_trace(tmp_path / "b.trace", trace)
    with pytest.raises(SystemExit) as ended:
        run_in(tmp_path / "run", *OPTIONS, "--against", str(tmp_path / "b.trace"), mode="check-port")
    assert ended.value.code == 3
    said = capsys.readouterr().out
    assert "inputs not normalised" in said
    assert "differs: first in stem.0 input" in said


def test_a_layer_that_went_wrong_there_is_named_here(
    recorded: Path, run_in: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = read_trace(recorded / "a.trace")
    wrong = trace.tensors["output/layer1.1/0"].copy()
    wrong[1, 2] *= 1.001
    trace.tensors["output/layer1.1/0"] = wrong
    write_trace(tmp_path / "b.trace", trace)
    with pytest.raises(SystemExit) as ended:
        run_in(tmp_path / "run", *OPTIONS, "--against", str(tmp_path / "b.trace"), mode="check-port")
    assert ended.value.code == 3
    assert "differs: first in layer1.1 output: batch normalisation of 16 channels" in capsys.readouterr().out


def test_a_dump_of_msprobe_is_compared_without_a_step_here(
    recorded: Path, run_in: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--against", str(recorded / "dump"), "--device", "cpu"]
    assert run_in(tmp_path / "run", *command, mode="check-port", plain=True).status == 0
    (side,) = json.loads((tmp_path / "run" / "port.json").read_text())["sides"].values()
    assert side["agrees"] is True
    trace = read_trace(recorded / "a.trace")
    compared = {(check["layer"], check["quantity"]) for check in side["checks"]}
    assert {(call.name, what) for call in trace.calls for what in ("output", "output gradient")} <= compared
    log = (tmp_path / "run" / "train.log").read_text()
    assert "whose step has no labels: no loss, statistics, update and loss curve to compare" in log
    assert "agrees: rounding explains every difference" in log


def test_what_is_wrong_in_a_dump_is_named(
    recorded: Path, run_in: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(recorded / "dump", tmp_path / "dump")
    (file,) = (tmp_path / "dump").rglob("Module.layer1.0.*Conv2d.parameters_grad.0.weight.pt")
    gradient = torch.load(file)
    torch.save(gradient * 1.01, file)
    with pytest.raises(SystemExit) as ended:
        run_in(tmp_path / "run", "--against", str(tmp_path / "dump"), mode="check-port", plain=True)
    assert ended.value.code == 3
    assert "differs: first in layer1.0 weight gradient" in capsys.readouterr().out


def test_a_dump_goes_into_a_folder_of_its_own(
    recorded: Path, run_in: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_in(tmp_path / "run", *OPTIONS, "--msprobe", str(recorded / "dump"), mode="check-port")
    assert run.status == 2
    assert "dump is not empty; give --msprobe a new folder, or read a dump with --against" in capsys.readouterr().err
    options = ["--against", str(recorded / "dump"), "--batch-size", "8"]
    assert run_in(tmp_path / "run", *options, mode="check-port", plain=True).status == 2
    assert "leave --batch-size out" in capsys.readouterr().err
    options = ["--against", str(recorded / "dump"), "--network", "senet154"]
    assert run_in(tmp_path / "run", *options, mode="check-port", plain=True).status == 2
    assert "has no output of last_linear; it is not of senet154: give its --network" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"not a trace at all", (10).to_bytes(8, "little") + b"{}        "])
def test_a_file_that_is_no_trace_is_refused(
    content: bytes, run_in: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_bytes(content)
    run = run_in(tmp_path / "run", "--against", str(tmp_path / "file"), mode="check-port")
    assert run.status == 2
    assert "is not a trace; give a file of --save-trace" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_trace_of_the_other_half_is_refused(
    recorded: Path, run_in: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = read_trace(recorded / "a.trace")
    trace.description["half"] = "tf_seresnet"
    write_trace(tmp_path / "b.trace", trace)
    assert run_in(tmp_path / "run", "--against", str(tmp_path / "b.trace"), mode="check-port").status == 2
    assert "is a trace of tf_seresnet" in capsys.readouterr().err


def test_a_frozen_body_is_refused(
    run_in: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_in(tmp_path / "run", "--freeze-body", mode="check-port").status == 2
    assert "compares the gradients of all weights; leave --freeze-body out" in capsys.readouterr().err


def test_a_trace_that_cannot_be_written_is_refused_before_the_step(
    run_in: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_in(tmp_path / "run", *OPTIONS, "--save-trace", str(tmp_path / "no" / "a.trace"), mode="check-port")
    assert run.status == 2
    assert "cannot write a trace to" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_signal_ends_the_comparison_at_once(
    run_in: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch_imagenet import check_port

    def interrupted(*arguments: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("it went on")

    monkeypatch.setattr(check_port, "compare_trace", interrupted)
    assert run_in(tmp_path / "run", *OPTIONS, mode="check-port").status == 143
    assert not (tmp_path / "run" / "port.json").exists()


@pytest.mark.parametrize(
    ("options", "scale"),
    [([], 1024.0), (["--recipe", "imagenet_finetune"], 128.0), (["--loss-scale", "dynamic"], 65536.0)],
)
def test_a_dynamic_loss_scale_is_replaced_unless_it_is_typed(
    options: List[str], scale: float, run_in: Callable[..., Any], tmp_path: Path
) -> None:
    file = tmp_path / "a.trace"
    run_in(tmp_path / "run", *OPTIONS, "--precision", "O1", *options, "--save-trace", str(file), mode="check-port")
    assert read_trace(file).description["loss_scale"] == scale
