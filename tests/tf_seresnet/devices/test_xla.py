"""Compiled by XLA: what asks for it, what it is told where it fails, and that nothing is compiled twice."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

tf = pytest.importorskip("tensorflow")

from shared.errors import UsageError  # noqa: E402
from tf_seresnet import devices  # noqa: E402
from tf_seresnet.devices import probe  # noqa: E402
from tf_seresnet.main import main  # noqa: E402
from tf_seresnet.options import RunConfig  # noqa: E402
from tf_seresnet.run import description  # noqa: E402

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def gpu(monkeypatch):
    """gpu(words, began, compiles): the device of this command line, with a GPU that has no hardware."""
    monkeypatch.setattr(probe, "visible_gpus", lambda: ["first"])
    monkeypatch.setattr(probe, "gpu_name", lambda physical, index: "a GPU")

    def opened(words, began=None, compiles=True):
        def rewritten(config):
            if config.graph_options.optimizer_options.global_jit_level == tf.compat.v1.OptimizerOptions.ON_1:
                if isinstance(compiles, Exception):
                    raise compiles
                return set(), {"_XlaRun"} if compiles else set()
            return set(), set()

        monkeypatch.setattr(probe, "rewritten", rewritten)
        return devices.open_from(RunConfig.from_argv(words.split()), "O0", None, began)

    return opened


def state(kind, xla):
    return {"device": {"kind": kind}, "arithmetic": {"xla": xla}}


@pytest.mark.parametrize(
    ("words", "began", "compiled"),
    [
        ("--device gpu", None, True),
        ("--device gpu --no-xla", None, False),
        ("--device gpu", state("gpu", False), False),  # also a run that began before this was the default
        ("--device gpu", state("gpu", True), True),
        ("--device gpu", {}, False),
        ("--device gpu --xla", state("gpu", False), True),
        ("evaluate --device gpu", None, False),
        ("evaluate --device gpu --xla", None, True),
        ("predict --device gpu a.png", None, False),
    ],
)
def test_a_training_on_a_gpu_is_compiled_and_goes_on_as_it_began(gpu, words, began, compiled):
    device = gpu(words, began)
    assert (device.xla, device.static_shapes, device.settings()["xla"]) == (compiled,) * 3
    assert (", compiled by XLA" in description.device_lines(device)[0]) == compiled
    assert (device.steps_per_call(None), device.holds_training_set, device.notes) == (10, True, [])


def test_where_it_fails_nobody_waits_for_it_unless_it_was_asked_for(gpu):
    error = tf.errors.InternalError(None, None, "libdevice not found at\n./libdevice.10.bc")
    device = gpu("--device gpu", compiles=error)
    assert (device.xla, device.static_shapes) == (False, False)
    assert device.notes == ["XLA fails (libdevice not found at ./libdevice.10.bc) on a GPU, so this is not compiled"]
    assert gpu("--device gpu", compiles=False).notes == ["XLA has no effect on a GPU, so this is not compiled"]
    with pytest.raises(UsageError, match="XLA fails .libdevice not found.* on a GPU; give --no-xla"):
        gpu("--device gpu --xla", compiles=error)
    with pytest.raises(UsageError, match="XLA has no effect on a GPU under TensorFlow .*; leave out --xla"):
        gpu("--device gpu --xla", compiles=False)


def test_a_cpu_compiles_where_it_is_told_to():
    config = RunConfig.from_argv(["--device", "cpu"])
    for began in (None, state("cpu", True)):
        device = devices.open_from(config, "O0", None, began)
        assert (device.xla, device.static_shapes, device.holds_training_set) == (False, False, False)


@pytest.mark.slow
@pytest.mark.once
def test_xla_compiles_each_part_of_a_training_once(sample_folder, tmp_path):
    """In its own process, where `load_tensorflow` sets the flag and loads TensorFlow. Batches of an epoch and of the
    evaluation do not divide the images, and calls have two steps and one."""
    folder, words = tmp_path / "run", ["--device", "cpu", "--data-path", str(sample_folder)]
    trained = [
        *words,
        *"--recipe sample --variant paper --depth 8 --batch-size 400 --epochs 1 --steps-per-call 2".split(),
    ]
    trained += ["--xla", "--eval-batch-size", "100", "--output-dir", str(folder)]
    code = (
        f"import sys; from tf_seresnet.main import main; assert 'tensorflow' not in sys.modules; main({trained!r})\n"
        "import tensorflow as tf; new = tuple(map(int, tf.__version__.split('.')[:2])) >= (2, 16)\n"
        "print(not (new and 'keras' in sys.modules))  # it is a third of the time that TensorFlow takes to load\n"
        "print(not new or tf.keras.__name__.startswith('keras.'))"
    )
    dump, command = tmp_path / "compiled", [sys.executable, "-c", code]
    environment = {**os.environ, "XLA_FLAGS": f"--xla_dump_to={dump} --xla_backend_optimization_level=0"}
    output = subprocess.run(command, cwd=str(ROOT), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    assert output.stdout.decode().split()[-2:] == ["True"] * 2, output.stderr.decode()
    names = [re.search(r"cluster_\d+", path.name).group() for path in dump.glob("*before_optimizations.txt")]
    assert 4 < len(names) == len(set(names))
    log = (folder / "train.log").read_text(encoding="utf-8")
    assert "precision O0, compiled by XLA\n" in log
    assert "this device wants one shape; the last 295 images of an epoch's order are left out" in log
    record = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    assert (record["compiled"], record["steps_per_call"], record["images_trained"]) == (True, 2, 1200)
    again = ["evaluate", *words, "--checkpoint", str(folder), "--output-dir", str(tmp_path / "again")]
    assert main([*again, "--batch-size", "100"]) == 0  # without XLA
    expected = json.loads((tmp_path / "again" / "result.json").read_text(encoding="utf-8"))["evaluation"]
    assert record["evaluation"]["loss"] == pytest.approx(expected["loss"], rel=1e-4)
    for key in ("images", "confusion", "top5"):
        assert record["evaluation"][key] == expected[key]
