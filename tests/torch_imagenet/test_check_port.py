"""The mode check-port from the command line: exit status, files, and a trace that is carried to another machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable

import pytest

from shared.port_check.trace import read_trace, write_trace
from shared.results.record import read_record

OPTIONS = ["--batch-size", "4", "--image-size", "32", "--max-steps", "2"]


@pytest.fixture(scope="module")
def recorded(run_in: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run of a clean port, and its trace."""
    folder = tmp_path_factory.mktemp("port")
    run = run_in(folder / "run", *OPTIONS, "--save-trace", str(folder / "a.trace"), mode="check-port")
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
