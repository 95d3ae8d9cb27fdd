"""Several devices: together they are one device with all their images, batch normalisation aside.

In one process the devices are TensorFlow's logical CPU devices; graph, strategy and session are those of several GPUs.
In several processes they are stand-ins for NPUs, whose distributed optimizer really averages.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

tf = pytest.importorskip("tensorflow")

from shared import recipes, rng  # noqa: E402
from shared.errors import UsageError  # noqa: E402
from tests.tf_seresnet.conftest import SHORT, Run  # noqa: E402
from tests.tf_seresnet.test_resume import assert_same  # noqa: E402
from tf_seresnet import devices  # noqa: E402
from tf_seresnet.devices import probe as found  # noqa: E402
from tf_seresnet.devices import stock_tensorflow  # noqa: E402
from tf_seresnet.devices.replicas import Replicas  # noqa: E402
from tf_seresnet.layers.core import CoreLayers  # noqa: E402
from tf_seresnet.main import main  # noqa: E402
from tf_seresnet.step.graph import NetworkSpec  # noqa: E402
from tf_seresnet.step.input_pipeline import Normalisation, TrainingInput  # noqa: E402
from tf_seresnet.step.training_step import TrainingStep  # noqa: E402
from tf_seresnet.step.variables import initialise  # noqa: E402

tf1 = tf.compat.v1
ROOT = Path(__file__).resolve().parents[3]
VERSION = tuple(int(part) for part in tf.__version__.split(".")[:2])
RANDOM = np.random.RandomState(0)
IMAGES = RANDOM.randint(0, 256, (20, 32, 32, 3)).astype(np.uint8)
LABELS = RANDOM.randint(0, 10, 20).astype(np.int32)
NETWORK = NetworkSpec(8, "paper", "core", 10)
RECIPE = recipes.get("sample").override(weight_decay=0.01)


class Trained:
    """Every variable, and what each step said, after the steps of one epoch."""

    def __init__(self, number, batch_size, images=IMAGES, labels=LABELS, crops=2, frozen=False, **options):
        device = devices.open_device("cpu", number=number, **options)
        with tf.Graph().as_default(), device.connected() as replicas, pytest.MonkeyPatch.context() as patch:
            if frozen:
                patch.setattr(CoreLayers, "batch_norm", _with_moving_averages)
            recipe = RECIPE.override(batch_size=batch_size, crop_padding=crops, flip=crops > 0)
            batch = TrainingInput(images, labels, Normalisation.from_images(IMAGES), recipe, device, replicas)
            step = TrainingStep(NETWORK, batch)
            with tf1.Session(config=device.session_config()) as session:
                initialise(session, 0)
                batch.start_epoch(session, 0)
                self.steps = [step.run(session, 0.1) for _ in range(batch.steps_per_epoch)]
                of_devices = tf.distribute.get_strategy().experimental_local_results
                variables = tf1.global_variables()
                self.variables, self.copies = session.run(  # at once: each call would prune the whole graph again
                    ({v.op.name: v for v in variables}, [list(of_devices(v)) for v in variables])
                )


_batch_norm = CoreLayers.batch_norm


def _with_moving_averages(layers, x, training):
    """Batch normalisation as in an evaluation: what is left of a step adds up over images."""
    return _batch_norm(layers, x, training=False)


@pytest.fixture(scope="module")
def several():
    """Two steps of two devices, of 12 images and of the last 7, which they share as 3 and 4."""
    return Trained(2, 6, IMAGES[:19], LABELS[:19], frozen=True, loss_scale="dynamic")


def test_devices_train_on_every_image_and_stay_the_same(several):
    assert [step.images for step in several.steps] == [12, 7]
    assert several.variables["global_step"] == 2
    assert len(several.copies) == len(several.variables) > 70
    for copies in several.copies:
        np.testing.assert_array_equal(*copies)


@pytest.mark.slow
def test_many_devices_are_one_with_all_their_images(several):
    one = Trained(1, 12, IMAGES[:19], LABELS[:19], frozen=True)
    assert [step.images for step in one.steps] == [12, 7]
    assert [step.correct for step in several.steps] == [step.correct for step in one.steps]
    losses = [[step.loss for step in run.steps] for run in (several, one)]
    np.testing.assert_allclose(*losses, rtol=1e-6)
    assert one.variables.keys() <= several.variables.keys()
    for name, value in one.variables.items():
        np.testing.assert_allclose(several.variables[name], value, rtol=0, atol=2e-6, err_msg=name)
    changed = max(np.abs(one.variables[name]).max() for name in one.variables if name.endswith("/Momentum"))
    assert changed > 0.1  # what was compared is not small


@pytest.mark.slow
def test_each_device_normalises_by_its_own_images_and_the_mean_is_taken():
    """One step is linear in gradients and statistics: all variables are the mean of two devices' that train alone."""
    order = rng.epoch_order(0, 0, 8)
    both = Trained(2, 4, IMAGES[:8], LABELS[:8], crops=0)
    first, second = (Trained(1, 4, IMAGES[part], LABELS[part], crops=0) for part in (order[:4], order[4:]))
    for name, value in both.variables.items():
        mean = (first.variables[name] + second.variables[name]) / 2
        np.testing.assert_allclose(value, mean, rtol=1e-5, atol=1e-6, err_msg=name)
    assert both.steps[0].loss == pytest.approx((first.steps[0].loss + second.steps[0].loss) / 2, rel=1e-6)
    apart = [np.abs(first.variables[name] - second.variables[name]).max() for name in first.variables]
    assert np.mean(np.array(apart) > 1e-4) > 0.8  # what was averaged is not the same


class Process(Replicas):
    def __init__(self, rank, size, towers):
        self.rank, self.size, self.towers = rank, size, towers


@settings(max_examples=15)
@given(st.integers(1, 40), st.integers(1, 5), st.integers(1, 4), st.integers(0, 3))
def test_processes_share_every_step_of_the_epochs_order(images, batch, ranks, first_step):
    """The processes' parts of a step, one behind the other, are the step's part of the order."""
    of_rank = []
    for rank in range(ranks):
        with tf.Graph().as_default():
            made = TrainingInput(
                np.zeros((images, 4, 4, 3), np.uint8),
                np.zeros(images, np.int32),
                Normalisation((0,) * 3, (1,) * 3),
                RECIPE.override(batch_size=batch),
                SimpleNamespace(static_shapes=True, times_data_wait=True),
                Process(rank, ranks, 1),
            )
        assert made.steps_per_epoch == images // (batch * ranks)
        assert made.left_out == images % (batch * ranks)
        of_rank.append(made._positions(first_step).reshape(-1, batch))
    together = np.concatenate(of_rank, axis=1).ravel()
    last = made.steps_per_epoch * batch * ranks
    np.testing.assert_array_equal(together, np.arange(first_step * batch * ranks, last))


@pytest.mark.parametrize(("images", "steps", "left_out"), [(18, 2, 0), (19, 2, 1), (20, 2, 2), (12, 2, 0)])
def test_a_step_with_fewer_images_than_devices_is_left_out(images, steps, left_out):
    with tf.Graph().as_default():
        made = TrainingInput(
            IMAGES[:images],
            LABELS[:images],
            Normalisation.from_images(IMAGES),
            RECIPE.override(batch_size=3),
            devices.open_device("cpu"),
            Process(0, 1, 3),
        )
    assert (made.steps_per_epoch, made.left_out) == (steps, left_out)


# -- the command line ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reference(sample_folder, tmp_path_factory):
    """Two devices, six steps, nobody stopped it."""
    return _uninterrupted(sample_folder, tmp_path_factory.mktemp("two") / "run")


def _uninterrupted(data, folder):
    options = [*SHORT, "--device", "cpu", "--num-devices", "2", "--data-path", str(data)]
    return Run(main([*options, "--output-dir", str(folder)]), folder)


@pytest.mark.slow
def test_a_run_on_two_devices_is_recorded_as_one(reference):
    assert reference.status == 0
    record = reference.record
    assert record["device"]["count"] == 2
    assert (record["batch_size"], record["global_batch_size"]) == (16, 32)
    assert (record["steps_completed"], record["images_trained"]) == (6, 192)
    assert json.loads((reference.folder / "config.json").read_text())["global_batch_size"] == 32
    log = (reference.folder / "train.log").read_text()
    assert "device: cpu, 2 x " in log
    assert "batch 16 per device (32 in all), learning rate cosine from 0.1 to 0" in log
    assert len(reference.weights()) == 84  # one of each, as on one device


@pytest.mark.slow
@pytest.mark.skipif(VERSION == (1, 15), reason="there the two ranks below are stopped and resumed, and take longer")
def test_stopped_and_resumed_on_two_devices_is_the_uninterrupted_run(train, reference, stop_after, monkeypatch, capsys):
    stop_after("step", 4)
    stopped = train("--num-devices", "2")
    assert stopped.status == 143
    monkeypatch.undo()
    again = ["--resume", str(stopped.folder), "--print-freq", "1"]
    assert train(*again, short=False).status == 2
    assert capsys.readouterr().err.startswith(
        "error: the run to resume trained on 2 devices and this is 1; give --num-devices 2"
    )
    assert_same(train(*again, "--distributed", "--num-devices", "2", short=False), reference)


@pytest.mark.slow
@pytest.mark.parametrize("number", ["1", "3"])
def test_evaluation_counts_every_image_once_on_any_number_of_devices(reference, tmp_path, number):
    options = ["--checkpoint", reference.folder, "--num-devices", number, "--batch-size", "77"]
    folder = tmp_path / "evaluation"
    assert main(["evaluate", "--device", "cpu", "--output-dir", str(folder), *map(str, options)]) == 0
    found, trained = Run(0, folder).record, reference.record["evaluation"]
    assert (found["device"]["count"], found["global_batch_size"]) == (int(number), 77 * int(number))
    for key in ("images", "top1", "top5", "confusion"):
        assert found["evaluation"][key] == trained[key]
    assert found["evaluation"]["loss"] == pytest.approx(trained["loss"], rel=1e-6)


def test_several_cpu_devices_are_as_many_as_asked_for():
    with pytest.raises(UsageError, match="--distributed on the CPU needs a number of devices; add --num-devices N"):
        devices.open_device("cpu", number=None)
    assert devices.open_device("cpu", number=5).session_config().device_count["CPU"] == 5


def test_slim_trains_on_one_device():
    from tf_seresnet.run import setup

    with pytest.raises(UsageError, match="--layers slim runs on one device; use --layers core"):
        setup.check_devices(devices.open_device("cpu", number=2), NetworkSpec(11, "port", "slim", 10))


@pytest.fixture
def gpus(monkeypatch):
    """Two GPUs that TensorFlow would list, without anything behind them."""
    monkeypatch.setattr(found, "visible_gpus", lambda: ["first", "second"])
    monkeypatch.setattr(found, "gpu_name", lambda physical, index: f"GPU the {physical}")


@pytest.mark.usefixtures("gpus")
def test_gpus_of_this_machine():
    assert devices.open_device("gpu", number=2).session_config().gpu_options.visible_device_list == "0,1"
    assert devices.open_device("gpu", number=None).describe() == {"kind": "gpu", "name": "GPU the first", "count": 2}
    assert devices.open_device("auto", number=None).count == 2
    with pytest.raises(UsageError, match="--num-devices 3, but this machine has 2 gpu; lower it"):
        devices.open_device("gpu", number=3)
    with pytest.raises(UsageError, match="gpu:1 is one device, and several are asked for; write --device gpu"):
        devices.open_device("cuda:1", number=2)


# -- the adapter's ranks ---------------------------------------------------------------------------------------


@pytest.fixture
def ranks(tmp_path, sample_folder):
    """ranks(*options) starts two of them through the starter, with a rank table, and gives the starter's process."""
    listed = [{"rank_id": str(number), "device_id": str(number)} for number in range(2)]
    table = {"status": "completed", "version": "1.0", "server_list": [{"server_id": "node_0", "device": listed}]}
    (tmp_path / "table.json").write_text(json.dumps(table))
    given_ = {
        "RANK_TABLE_FILE": str(tmp_path / "table.json"),
        "PYTHONPATH": str(ROOT / "tests" / "fakes" / "tf115_npu_bridge"),
        "NPU_STAND_IN_RECORD": str(tmp_path / "sessions"),
        "OMP_NUM_THREADS": "1",
    }

    def start(*options):
        command = [sys.executable, str(ROOT / "tf_seresnet" / "main.py"), "--device", "npu", "--distributed", *options]
        return subprocess.Popen(
            [*command, "--data-path", str(sample_folder)],
            env={**os.environ, **given_},
            universal_newlines=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    return start


@pytest.mark.slow
@pytest.mark.skipif(VERSION != (1, 15), reason="the adapter npu_bridge is for TensorFlow 1.15")
def test_two_ranks_stopped_and_resumed_are_two_devices_of_one_process(ranks, sample_folder, tmp_path, monkeypatch):
    """Bit for bit, in every variable and every logged number. The scale is a power of two, which rounds nothing.

    The graph goes through all passes on both sides, for some of those that a CPU leaves out change the last bits.
    """
    monkeypatch.setattr(stock_tensorflow, "_leave_out_passes", lambda rewrite_options: None)
    reference = _uninterrupted(sample_folder, tmp_path / "reference")
    folder = tmp_path / "run"
    stopped = ranks(*SHORT, "--loss-scale", "1024", "--output-dir", str(folder))
    for line in stopped.stdout:
        if "step: 2/3" in line:
            stopped.send_signal(signal.SIGTERM)
            break
    out, err = stopped.communicate(timeout=200)
    assert (stopped.returncode, err) == (143, ""), out
    assert "continue exactly with --resume" in out
    resumed = ranks("--resume", str(folder), "--print-freq", "1", "--loss-scale", "1024")
    out, err = resumed.communicate(timeout=200)
    assert (resumed.returncode, err) == (0, ""), out
    run = Run(0, folder)
    assert run.events() == reference.events()
    weights, wanted = run.weights(), reference.weights()
    assert weights.pop("global_step") == 6  # the updates, which are counted where a loss scale may leave one out
    assert weights.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_array_equal(weights[name], value, err_msg=name)
    record = run.record
    assert record["device"] == {"kind": "npu", "name": "Ascend NPU", "count": 2}
    assert (record["images_trained"], record["global_batch_size"]) == (192, 32)
    evaluation = dict(record["evaluation"], checkpoint="")
    assert evaluation == dict(reference.record["evaluation"], checkpoint="")
    said = [json.loads(line) for line in (tmp_path / "sessions").read_text().splitlines()]
    sessions = [entry["session"] for entry in said if entry.get("session")]
    assert sessions  # of training, in every rank, with a device and the documented keys of a rank
    documented = {"use_off_line": True, "graph_run_mode": 1, "hcom_parallel": True}
    assert all(session == dict(documented, precision_mode="must_keep_origin_dtype") for session in sessions)
    assert [entry["is_distributed"] for entry in said if "optimizer" in entry] == [True] * 4
