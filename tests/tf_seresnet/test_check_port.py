"""The mode `check-port`: exit status, files, traces from one TensorFlow to another."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from shared.port_check.trace import LayerCall, Trace, read_trace, write_trace

tf = pytest.importorskip("tensorflow")

from tf_seresnet.check_port import DESCRIBED  # noqa: E402
from tf_seresnet.main import main  # noqa: E402

VERSION = tuple(int(part) for part in tf.__version__.split(".")[:2])
ROOT = Path(__file__).resolve().parents[2]
SHORT = "--device cpu --recipe sample --variant paper --depth 8".split()


@pytest.fixture
def check(sample_folder, tmp_path):
    """check(*options) runs the mode and returns its exit status and its folder."""

    def run(*options, name="run"):
        words = ["check-port", "--data-path", str(sample_folder), "--output-dir", str(tmp_path / name), *options]
        try:
            return main(words), tmp_path / name
        except SystemExit as ended:
            return ended.code, tmp_path / name

    return run


@pytest.mark.slow
def test_a_step_agrees_and_its_trace_too(check, tmp_path, capsys):
    trace = tmp_path / "step.trace"
    status, folder = check(*SHORT, "--save-trace", str(trace))
    assert status == 0
    assert "agrees: rounding explains every difference" in capsys.readouterr().out
    record = json.loads((folder / "result.json").read_text())
    assert (record["mode"], record["network"], record["steps_completed"]) == ("check-port", "se_resnet8", 3)
    assert "evaluation" not in record
    (side,) = json.loads((folder / "port.json").read_text())["sides"].values()
    assert side["agrees"]
    assert len(side["losses"]["side"]) == 3
    assert side["error_by_depth"][0]["layer"] == "conv2d"
    assert side["description"]["network"] == {"depth": 8, "variant": "paper", "num_classes": 10}

    status, folder = check("--device", "cpu", "--against", str(trace), name="other")
    assert status == 0
    sides = json.loads((folder / "port.json").read_text())["sides"]
    assert [found["agrees"] for found in sides.values()] == [True, True]
    assert {len(found["losses"]["side"]) for found in sides.values()} == {3}


@pytest.mark.slow
def test_a_trace_that_differs(check, tmp_path, capsys):
    path = tmp_path / "step.trace"
    assert check(*SHORT, "--max-steps", "1", "--save-trace", str(path))[0] == 0
    trace = read_trace(path)
    trace.tensors["output/conv2d_2/0"] = np.roll(trace.tensors["output/conv2d_2/0"], 1, axis=1)
    write_trace(path, trace)
    capsys.readouterr()
    status, folder = check("--device", "cpu", "--max-steps", "1", "--against", str(path), name="other")
    assert status == 3
    lines = capsys.readouterr().out.splitlines()
    assert any(
        line.startswith("differs: first in conv2d_2 output: 3x3 convolution, 16 to 16 channels") for line in lines
    )
    own, other = json.loads((folder / "port.json").read_text())["sides"].values()
    assert (own["agrees"], other["agrees"]) == (True, False)
    assert other["first"]["layer"] == "conv2d_2"


@pytest.mark.slow
def test_given_weights(check, finished):
    run = finished()
    status, folder = check(*SHORT, "--max-steps", "1", "--checkpoint", str(run.folder), name="check")
    assert status == 0
    (side,) = json.loads((folder / "port.json").read_text())["sides"].values()
    assert {one["quantity"] for one in side["checks"] if one["stage"] == "weights"} >= {"kernel", "biased", "gamma"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--against NONE", "cannot be read"),
        ("--against OTHER", "is a trace of torch_imagenet; compare it there"),
        ("--against OWN", "has no recipe; write it again"),
        ("--against WHOLE --depth 14", "leave out --depth"),
        ("--resume NONE", "--checkpoint instead of --resume"),
        ("--num-devices 2", "one device at a time in this half; give --device"),
        ("--layers keras --loss-scale 8", "no --loss-scale"),
    ],
)
def test_what_cannot_be_compared(words, message, check, tmp_path, capsys):
    described = dict.fromkeys(DESCRIBED, {})
    parts = ("images", "labels", "losses", "crop/top", "crop/left", "crop/flip", "output/images/0")
    tensors, calls = dict.fromkeys(parts, np.zeros(1)), [LayerCall("images", 0, "", "float32", "float32")]
    write_trace(tmp_path / "OTHER", Trace({"half": "torch_imagenet"}))
    write_trace(tmp_path / "OWN", Trace({"half": "tf_seresnet", "network": {}}))
    write_trace(tmp_path / "WHOLE", Trace({"half": "tf_seresnet", **described}, calls, tensors))
    for name in ("NONE", "OTHER", "OWN", "WHOLE"):
        words = words.replace(name, str(tmp_path / name))
    assert check("--device", "cpu", *words.split())[0] == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.once
@pytest.mark.parametrize("backend", ["jax"])
def test_the_keras_model_against_a_graph(backend, check, tmp_path, sample_folder):
    for package in ("keras", backend):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    path = tmp_path / "graph.trace"
    assert check(*SHORT, "--save-trace", str(path))[0] == 0
    words = ["--device", "cpu", "--layers", "keras", "--against", str(path), "--output-dir", str(tmp_path / "keras")]
    command = [sys.executable, "tf_seresnet/main.py", "check-port", "--data-path", str(sample_folder), *words]
    environment = {**os.environ, "KERAS_BACKEND": backend}
    ended = subprocess.run(command, cwd=str(ROOT), env=environment, stdout=subprocess.PIPE, check=False)
    assert ended.returncode == 0, ended.stdout.decode()
    sides = json.loads((tmp_path / "keras" / "port.json").read_text())["sides"]
    assert [found["description"]["layers"] for found in sides.values()] == [f"keras on {backend}", "core"]
    stages = [{one["stage"] for one in found["checks"]} for found in sides.values()]
    assert stages[0] - stages[1] == {"weights"}  # those of the trace are what both begin with


# NumPy 2.4 warns about Keras's own conversion of TensorFlow variables.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.slow
@pytest.mark.once
def test_another_epsilon_in_the_keras_model(check, monkeypatch):
    pytest.importorskip("keras", minversion="3")
    monkeypatch.setattr("tf_seresnet.keras.layers.BATCH_NORM_EPSILON", 1e-5)
    status, folder = check(*SHORT, "--layers", "keras", "--max-steps", "1")
    assert status == 3
    (side,) = json.loads((folder / "port.json").read_text())["sides"].values()
    assert (side["first"]["layer"], side["first"]["quantity"]) == ("BatchNorm", "output")
    wrong = {cause["layer"] for cause in side["causes"]}
    assert wrong - {""} == {"BatchNorm"} | {f"BatchNorm_{number}" for number in range(1, 7)}


@pytest.mark.slow
@pytest.mark.skipif(VERSION not in ((1, 15), (2, 6)), reason="the Ascend adapters exist for TensorFlow 1.15 and 2.6")
def test_the_stand_in_npu_with_a_dynamic_loss_scale(tmp_path, sample_folder):
    """It computes in float32 where it may compute in float16, as a real one does for some layers."""
    stand_in = ROOT / "tests" / "fakes" / ("tf115_npu_bridge" if VERSION == (1, 15) else "tf26_npu_device")
    words = ["--device", "npu", "--precision", "O1", *SHORT[2:], "--data-path", str(sample_folder)]
    command = [sys.executable, "tf_seresnet/main.py", "check-port", *words, "--output-dir", str(tmp_path / "npu")]
    environment = dict(os.environ, PYTHONPATH=str(stand_in), NPU_STAND_IN_RECORD=str(tmp_path / "sessions"))
    ended = subprocess.run(command, cwd=str(ROOT), env=environment, stdout=subprocess.PIPE, check=False)
    assert ended.returncode == 0, ended.stdout.decode()
    (side,) = json.loads((tmp_path / "npu" / "port.json").read_text())["sides"].values()
    assert side["agrees"]
    assert side["description"]["loss_scale"] == 2.0**32
    assert side["description"]["device"]["kind"] == "npu"


def _other_python():
    """A Python with another TensorFlow, of the environments that tests/run.sh makes."""
    for name in (".venv-tf115", ".venv", ".venv-tf26"):
        python = ROOT / name / "bin" / "python"
        if python.is_file() and Path(sys.prefix).resolve() != (ROOT / name).resolve():
            return str(python)
    return pytest.skip("no environment with another TensorFlow")


@pytest.mark.slow
def test_from_one_tensorflow_to_another_and_back(check, tmp_path, sample_folder):
    python = _other_python()

    def there(*options):
        words = ["tf_seresnet/main.py", "check-port", "--device", "cpu", "--data-path", str(sample_folder), *options]
        return subprocess.run([python, *words], cwd=str(ROOT), stdout=subprocess.PIPE, check=False)

    from_here, from_there = tmp_path / "here.trace", tmp_path / "there.trace"
    assert check(*SHORT, "--save-trace", str(from_here))[0] == 0
    options = ["--against", str(from_here), "--save-trace", str(from_there), "--output-dir", str(tmp_path / "there")]
    ended = there(*options)
    assert ended.returncode == 0, ended.stdout.decode()
    versions = [read_trace(path).description["versions"]["tensorflow"] for path in (from_here, from_there)]
    assert versions[0] != versions[1]
    assert check("--device", "cpu", "--against", str(from_there), name="back")[0] == 0
