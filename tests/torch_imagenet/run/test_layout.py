"""The layout of a training where no table has it: the faster one of a probe, for the whole of a run."""

from __future__ import annotations

import json

import pytest

torch = pytest.importorskip("torch")

from shared.errors import RunEnded  # noqa: E402
from torch_imagenet.devices.device import Device  # noqa: E402
from torch_imagenet.run import layout  # noqa: E402

ONE_STEP = ("--epochs", "1", "--steps-per-epoch", "1", "--warm-up-epochs", "0")


@pytest.fixture
def probing(monkeypatch):
    """probing({layout: seconds}): a CPU that is probed, and what its probe gives; which layouts were measured."""
    asked = []

    def with_times(times):
        monkeypatch.setattr(Device, "probes_layout", property(lambda device: True))
        monkeypatch.setattr(layout, "_seconds", lambda setup: asked.append(setup.memory_format) or times[asked[-1]])
        return asked

    return with_times


def _layout(run):
    assert run.status == 0
    stored = json.loads((run.folder / "checkpoints" / "last" / "state.json").read_text())
    assert stored["arithmetic"]["memory_format"] == run.record["memory_format"]
    return run.record["memory_format"]


def test_the_faster_layout_is_taken_said_and_kept(run_in, tmp_path, probing):
    asked = probing({"channels_last": 0.02, "contiguous": 0.01})
    first = run_in(tmp_path / "run", *ONE_STEP)
    assert _layout(first) == "contiguous"
    line = "layout: contiguous (channels_last 20.0, contiguous 10.0 ms a step of 10); --memory-format chooses another\n"
    assert line in (first.folder / "train.log").read_text()
    assert sorted(asked) == ["channels_last", "contiguous"]

    probing({"channels_last": 0.01, "contiguous": 0.02})
    again = run_in(tmp_path / "run", "--resume", str(tmp_path / "run"), "--epochs", "2", plain=True)
    assert _layout(again) == "contiguous"
    assert len(asked) == 2


def test_a_request_is_not_measured(run_in, tmp_path, probing):
    asked = probing({})
    assert _layout(run_in(tmp_path / "run", *ONE_STEP, "--memory-format", "contiguous")) == "contiguous"
    assert not asked


def test_without_memory_for_the_probe_the_table_decides(run_in, tmp_path, monkeypatch):
    def no_memory(setup):
        raise RunEnded("no memory left")

    monkeypatch.setattr(Device, "probes_layout", property(lambda device: True))
    monkeypatch.setattr(layout, "_seconds", no_memory)
    assert _layout(run_in(tmp_path / "run", *ONE_STEP)) == "channels_last"


def test_the_probe_takes_steps_of_the_run_and_leaves_it_alone(run_in, tmp_path, monkeypatch):
    plain = run_in(tmp_path / "plain", *ONE_STEP)
    monkeypatch.setattr(Device, "probes_layout", property(lambda device: True))
    real, measured = layout._seconds, []

    def seconds(setup):
        measured.append(real(setup))
        return len(measured)  # the first one is the faster

    monkeypatch.setattr(layout, "_seconds", seconds)
    run = run_in(tmp_path / "run", *ONE_STEP)
    assert len(measured) == 2
    assert min(measured) > 0
    for name, value in plain.training()["network"].items():
        assert torch.equal(value, run.training()["network"][name]), name
