"""TensorBoard's files, read back by TensorBoard itself."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest

from shared.run.log import RunLog
from tests.support.tensorboard_reader import hyper_parameters, read


@pytest.fixture
def console():
    return io.StringIO()


def test_the_scalars(tmp_path, console):
    with RunLog(tmp_path, console=console) as log:
        log.event("step", 1, {"loss": 9.0}, {"train/loss": 0.5, "train/top1": 25.0})
        log.event("step", 2, {"loss": 9.0}, {"train/loss": 0.25})
        log.event("note", 3, {"loss": 9.0})
    found = read(tmp_path / "tensorboard")
    assert found.scalars == {"train/loss": [(1, 0.5), (2, 0.25)], "train/top1": [(1, 25.0)]}


def test_what_was_written_beyond_the_resumed_step_is_forgotten(tmp_path, console):
    for resumed, values in ((0, range(1, 7)), (4, range(5, 8))):
        with RunLog(tmp_path, resumed_from_step=resumed, console=console) as log:
            for step in values:
                log.event("step", step, {}, {"loss": float(step + 100 * resumed)})
        _rename_in_order(tmp_path / "tensorboard", resumed)
    expected = [(step, float(step)) for step in range(1, 5)] + [(step, 400.0 + step) for step in range(5, 8)]
    assert read(tmp_path / "tensorboard").scalars == {"loss": expected}


def _rename_in_order(folder, number):
    """TensorBoard reads a folder's files by name, which begins with the second: both runs here are in the same one."""
    for path in folder.iterdir():
        if "second" not in path.name:
            path.rename(folder / path.name.replace("tfevents.", f"tfevents.{number}second"))


def test_an_image(tmp_path, console):
    image_module = pytest.importorskip("PIL.Image")
    pixels = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    with RunLog(tmp_path, console=console) as log:
        log.event("evaluation", 6, {}, images={"eval/confusion": pixels})
    ((step, image),) = read(tmp_path / "tensorboard").images["eval/confusion"]
    assert (step, image.width, image.height) == (6, 5, 4)
    assert np.array_equal(np.asarray(image_module.open(io.BytesIO(image.encoded_image_string))), pixels)


def test_hyper_parameters(tmp_path, console):
    given = {"learning_rate": 0.1, "epochs": 90, "nesterov": True, "network": "senet154"}
    with RunLog(tmp_path, console=console) as log:
        log.start(given)
        log.event("step", 1, {}, {"loss": 1.0})
    found, succeeded = hyper_parameters(tmp_path / "tensorboard")
    assert found == given
    assert found["nesterov"] is True
    assert not succeeded


def test_hyper_parameters_are_flat_and_without_what_is_not_set(tmp_path, console):
    recipe = {"name": "r", "schedule": {"kind": "step", "milestones": (30, 60), "base": 0.1}, "loss_scale": None}
    with RunLog(tmp_path, console=console) as log:
        log.start(recipe, device="2 x NPU")
    assert hyper_parameters(tmp_path / "tensorboard")[0] == {
        "name": "r",
        "schedule.kind": "step",
        "schedule.milestones": "30 60",
        "schedule.base": 0.1,
        "device": "2 x NPU",
    }


def test_a_run_that_has_done_all_says_so(tmp_path, console):
    with RunLog(tmp_path, console=console) as log:
        log.start({"seed": 3})
        log.succeeded()
    assert hyper_parameters(tmp_path / "tensorboard") == ({"seed": 3}, True)


@pytest.mark.parametrize(
    "missing", ["tensorboard", "tensorboard.compat.proto.event_pb2", "tensorboard.plugins.hparams"]
)
def test_without_tensorboard_the_log_says_so_and_works(tmp_path, console, monkeypatch, missing):
    for name in [name for name in sys.modules if name.partition(".")[0] == "tensorboard"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    with RunLog(tmp_path, console=console) as log:
        log.line("data: the first line belongs to the run")
        log.start({"seed": 3})
        log.event("step", 1, {}, {"loss": 0.5}, {"picture": np.zeros((1, 1, 3), np.uint8)})
        log.succeeded()
    first, second = (tmp_path / "train.log").read_text().splitlines()
    assert first.startswith("data: ")
    assert "pip install tensorboard" in second
    assert not (tmp_path / "tensorboard").exists()
    assert len((tmp_path / "events.jsonl").read_text().splitlines()) == 1
