"""The documented commands as a user starts them, in processes of their own, with this Python."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

tf = pytest.importorskip("tensorflow")

ROOT = Path(__file__).resolve().parents[2]
VERSION = tuple(int(part) for part in tf.__version__.split(".")[:2])
SMALL = ["--variant", "paper", "--depth", "8"]
SHORT = [
    "--recipe",
    "sample",
    *SMALL,
    "--batch-size",
    "16",
    "--steps-per-epoch",
    "4",
    "--epochs",
    "2",
    "--print-freq",
    "1",
]


@pytest.fixture
def start(tmp_path, sample_folder):
    """start(script, *options, **environment) gives the process; its working folder is empty at first."""

    def run(*command, **environment):
        # `sample_folder` is CACHE/se-pnas-kit/sample-v1/cifar-10-batches-py: no second sample is made.
        environment = dict(os.environ, PYTHON=sys.executable, KIT_CACHE=str(sample_folder.parents[2]), **environment)
        return subprocess.Popen(
            ["bash", str(ROOT / command[0]), *map(str, command[1:])],
            cwd=str(tmp_path),
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            universal_newlines=True,
        )

    return run


def finish(process, timeout=300):
    out, err = process.communicate(timeout=timeout)
    return process.returncode, out, err


def read(folder, name="result.json"):
    return json.loads((folder / name).read_text())


def last_weights(folder):
    reader = tf.compat.v1.train.load_checkpoint(str(folder / "checkpoints" / "last" / "model.ckpt"))
    return {name: reader.get_tensor(name).tobytes() for name in reader.get_variable_to_shape_map()}


@pytest.mark.slow
def test_run_gpu_without_data_trains_the_sample_and_eval_reports_the_same(start, tmp_path):
    code, out, err = finish(start("run_gpu.sh", *SMALL, "--epochs", "1", "--max-steps", "3"))
    assert (code, err) == (0, "")
    first = out.splitlines()[0]
    assert first.startswith("data: no CIFAR-10 here, so the embedded sample is used")
    assert "--data-path" in first
    assert "documented" in out
    (run,) = (tmp_path / "runs").iterdir()
    code, out, err = finish(start("eval.sh"))
    assert (code, err) == (0, "")
    assert "/{}/checkpoints/step-00000003/model.ckpt".format(run.name) in out
    (evaluated,) = (tmp_path / "runs").glob("*-evaluate-*")
    for key in ("images", "top1", "loss"):
        assert read(evaluated)["evaluation"][key] == read(run)["evaluation"][key]


@pytest.mark.once
@pytest.mark.slow
def test_ctrl_c_leaves_a_checkpoint_that_resumes_exactly(start, tmp_path, sample_folder):
    """Through the script, in processes of their own; SIGTERM at any moment is in tests/faults/cases/crash.py."""
    from tf_seresnet.main import main

    assert main([*SHORT, "--data-path", str(sample_folder), "--output-dir", str(tmp_path / "whole")]) == 0
    process = start("run_gpu.sh", *SHORT, "--output-dir", "out")
    deadline = time.time() + 240
    log = tmp_path / "out" / "events.jsonl"
    while time.time() < deadline and not (log.exists() and '"step": 3,' in log.read_text()):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    code, out, err = finish(process)
    # A fast machine may be at the end before the signal comes.
    assert (code, err) in ((130, ""), (0, ""))
    assert code == 0 or "continue exactly with --resume" in out.splitlines()[-1]
    code, _, err = finish(start("run_gpu.sh", "--resume", "out", "--print-freq", "1"))
    assert (code, err) == (0, "")
    assert last_weights(tmp_path / "out") == last_weights(tmp_path / "whole")


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.system, ("touch " + self.path,))


@pytest.mark.parametrize(
    "options",
    [("--dpeth", "11"), pytest.param(("--device", "npu"), marks=pytest.mark.slow)],  # which loads TensorFlow
)
def test_a_mistake_is_one_line_and_exit_2(start, tmp_path, options):
    """The others, without a process for each, are in tests/tf_seresnet/test_main.py."""
    code, _, err = finish(start("run_gpu.sh", *options))
    assert code == 2
    assert len(err.splitlines()) == 1
    assert err.startswith("error: ")
    assert ";" in err
    assert not (tmp_path / "runs").exists()


@pytest.mark.once
@pytest.mark.slow
def test_a_hostile_batch_executes_nothing(start, tmp_path, sample_folder):
    data = tmp_path / "cifar-10-batches-py"
    shutil.copytree(str(sample_folder), str(data))
    with (data / "data_batch_3").open("wb") as file:
        pickle.dump({"data": Hostile(str(tmp_path / "executed")), "labels": [0]}, file, protocol=2)
    code, _, err = finish(start("run_gpu.sh", "--data-path", data))
    assert code == 2
    assert len(err.splitlines()) == 1
    assert "data_batch_3" in err
    assert not (tmp_path / "executed").exists()


@pytest.mark.slow
@pytest.mark.skipif(VERSION not in ((1, 15), (2, 6)), reason="the Ascend adapters exist for TensorFlow 1.15 and 2.6")
def test_run_npu_trains_through_the_stand_in_adapter(start, tmp_path):
    stand_in = ROOT / "tests" / "fakes" / ("tf115_npu_bridge" if VERSION == (1, 15) else "tf26_npu_device")
    record = tmp_path / "sessions"
    code, out, err = finish(
        start(
            "run_npu.sh",
            *SMALL,
            "--batch-size",
            "64",
            "--max-steps",
            "3",
            "--output-dir",
            "out",
            PYTHONPATH=str(stand_in),
            NPU_STAND_IN_RECORD=str(record),
        )
    )
    assert (code, err) == (0, "")
    assert read(tmp_path / "out")["device"]["kind"] == "npu"
    assert read(tmp_path / "out")["precision"] == "O1"
    assert "the last 23 images of an epoch's order are left out" in out
    sessions = [json.loads(line) for line in record.read_text().splitlines()]
    assert sessions
    assert read(tmp_path / "out", "config.json")["device"]["npu_options"]["precision_mode"] == "allow_mix_precision"


@pytest.mark.once
def test_check_data_describes_the_folder(start, sample_folder):
    code, out, err = finish(start("run_gpu.sh", "check-data", "--data-path", sample_folder))
    assert (code, err) == (0, "")
    assert "data_batch_5" in out
