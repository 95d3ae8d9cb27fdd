"""Short runs of the command line inside the test process."""

from __future__ import annotations

import functools
import json
import shutil
import signal
from pathlib import Path

import pytest

pytest.importorskip("tensorflow")

# The smallest network, which halves the time to build the graph; the tests do not depend on the network.
SHORT = (
    "--recipe sample --variant paper --depth 8 --batch-size 16 --steps-per-epoch 3 --epochs 2 --print-freq 1"
).split()
PORT = ["--variant", "port", "--depth", "11"]  # added to SHORT: biases, and a gate after every convolution


class Run:
    """A finished run: its exit status and its files."""

    def __init__(self, status: int, folder: Path) -> None:
        self.status = status
        self.folder = folder

    @property
    def record(self) -> dict:
        return json.loads((self.folder / "result.json").read_text())

    def events(self, *kinds: str) -> list:
        """The events without times and throughput, which vary between runs."""
        drop = ("time", "images_per_second", "step_ms_p50", "step_ms_p95", "data_wait_share", "steps_timed")
        events = [json.loads(line) for line in (self.folder / "events.jsonl").read_text().splitlines()]
        return [
            {key: value for key, value in event.items() if key not in drop}
            for event in events
            if not kinds or event["event"] in kinds
        ]

    def weights(self) -> dict:
        """Every variable of the final checkpoint, optimizer state included."""
        import tensorflow as tf

        reader = tf.compat.v1.train.load_checkpoint(str(self.folder / "checkpoints" / "last" / "model.ckpt"))
        return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


@pytest.fixture
def train(sample_folder, tmp_path):
    """train(*options, name="run") trains the smallest network for six steps on the sample and returns the `Run`."""
    from tf_seresnet.main import main

    def start(*options: str, name: str = "run", short: bool = True) -> Run:
        folder = tmp_path / name
        arguments = [*(SHORT if short else []), "--device", "cpu", *options]
        if "--data-path" not in options:
            arguments += ["--data-path", str(sample_folder)]
        return Run(main([*arguments, "--output-dir", str(folder)]), folder)

    return start


@pytest.fixture(scope="session")
def _trained_once(sample_folder, tmp_path_factory):
    from tf_seresnet.main import main

    @functools.lru_cache(maxsize=None)
    def trained(*options: str) -> Run:
        folder = tmp_path_factory.mktemp("finished") / "run"
        arguments = [*SHORT, "--device", "cpu", "--data-path", str(sample_folder), *options]
        return Run(main([*arguments, "--output-dir", str(folder)]), folder)

    return trained


@pytest.fixture
def finished(_trained_once, tmp_path):
    """finished(*options) returns a copy of the `Run` of train(*options), for tests that use a finished run.

    The same options are trained only once per session.
    """

    def copy(*options: str) -> Run:
        run = _trained_once(*options)
        shutil.copytree(str(run.folder), str(tmp_path / "run"), symlinks=True)
        return Run(run.status, tmp_path / "run")

    return copy


@pytest.fixture
def stop_after(monkeypatch):
    """stop_after(what, count): ask the run to stop, as SIGTERM does, in its `count`-th training or inference step."""

    from shared.run.loop import Run as Loop
    from tf_seresnet.step.graph import Inference
    from tf_seresnet.step.training_step import TrainingStep

    def arm(what: str, count: int) -> None:
        owner, name = {"step": (TrainingStep, "read"), "inference": (Inference, "run")}[what]
        original, calls, interrupts = getattr(owner, name), [], []
        start = Loop.__enter__

        def remember(self):
            interrupts.append(self._interrupts)
            return start(self)

        def run(self, *arguments):
            calls.append(1)
            if len(calls) == count:
                interrupts[-1].requested = signal.SIGTERM
            return original(self, *arguments)

        monkeypatch.setattr(Loop, "__enter__", remember)
        monkeypatch.setattr(owner, name, run)

    yield arm
    monkeypatch.undo()
