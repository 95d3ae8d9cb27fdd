"""`--layers keras` on this process's backend; test_keras.py compares its losses with a graph's on every backend."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("keras", minversion="3")

from shared import rng  # noqa: E402
from shared.errors import UsageError  # noqa: E402
from shared.recipes.cifar10 import sample  # noqa: E402
from shared.system import processor  # noqa: E402
from tests.tf_seresnet.conftest import Run  # noqa: E402
from tf_seresnet import main as command  # noqa: E402
from tf_seresnet.devices import keras_backend  # noqa: E402
from tf_seresnet.keras import step as keras_step  # noqa: E402
from tf_seresnet.keras.training_step import KerasStep, build  # noqa: E402
from tf_seresnet.run.setup import RunSetup  # noqa: E402
from tf_seresnet.step.drawing import drawn  # noqa: E402
from tf_seresnet.step.spec import Normalisation  # noqa: E402

EVERYTHING = "--cutmix 1 --cutout 8 --drop-path 0.1 --ema-decay 0.9 --label-smoothing 0.1".split()
MISTAKES = [
    (["--precision", "O1"], "the Keras model has no precision O1; use --precision O0 or bf16"),
    (["--loss-scale", "8"], "no loss scale"),
    (["--num-devices", "2"], "runs on one device"),
    (["--device", "npu"], "leave out --layers keras on an NPU"),
    (["--device", "gpu"], "there is no gpu:0: tensorflow sees no GPU"),
    (["--workers", "2"], "has no input workers; leave out --workers"),
    (["--npu-option", "a=b"], "has no --npu-option"),
    (["--resume", "nothing"], "no checkpoint at nothing"),
]


@pytest.mark.parametrize(("options", "says"), MISTAKES, ids=[" ".join(options) for options, _ in MISTAKES])
def test_what_is_not_there_is_refused_in_one_line(options, says, tmp_path, monkeypatch, capsys, sample_folder):
    monkeypatch.chdir(tmp_path)
    device = [] if "--device" in options else ["--device", "cpu"]
    assert command.main(["--layers", "keras", "--data-path", str(sample_folder), *device, *options]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert says in error
    assert list(tmp_path.iterdir()) == []


def test_another_backend_is_refused(monkeypatch):
    monkeypatch.setattr("keras.backend.backend", lambda: "numpy")
    with pytest.raises(UsageError, match="trains on tensorflow, jax, torch and not on numpy"):
        keras_backend.KerasDevice("cpu", None, command.RunConfig.from_argv([]), "O0")


def test_the_threads_are_those_of_the_backend(monkeypatch):
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "9")
    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(get_num_threads=lambda: 5))
    assert keras_backend._threads("torch") == {"threads": 5}
    monkeypatch.setenv("NPROC", "3")
    assert keras_backend._threads("jax") == {"threads": 3}
    monkeypatch.delenv("NPROC")
    assert keras_backend._threads("jax") == {"threads": processor.cores()}
    assert keras_backend.KerasDevice("cpu", None, command.RunConfig.from_argv([]), "O0").rounding()["threads"] == 9


def test_bfloat16_that_tensorflow_would_round_too_often_is_refused(monkeypatch):
    monkeypatch.setattr(processor, "cpuinfo", lambda: "flags\t\t: fpu avx avx2\n")
    with pytest.raises(UsageError, match="use --precision O0, or --xla$"):
        keras_backend.KerasDevice("cpu", None, command.RunConfig.from_argv([]), "bf16")
    assert keras_backend.KerasDevice("cpu", None, command.RunConfig.from_argv(["--xla"]), "bf16").xla


def test_without_keras_one_line_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(UsageError, match="needs Keras 3 and its backend"):
        keras_backend.load()


def test_the_images_of_a_step_are_the_graphs():
    """Crops beyond every border, mirrored, cut out and mixed; bit for bit, but for the order of a mix's terms."""
    import tensorflow as tf

    from tf_seresnet.devices.stock_tensorflow import CpuDevice, Request
    from tf_seresnet.step.input_pipeline import TrainingInput

    random, count = np.random.RandomState(0), 64
    images = random.randint(0, 256, (count, 32, 32, 3)).astype(np.uint8)
    labels = random.randint(0, 10, count).astype(np.int32)
    recipe = sample().override(batch_size=count, crop_padding=4, flip=True, cutmix=1.0, mixup=0.3, cutout=8)
    normalise = Normalisation.from_images(images)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        batches = TrainingInput(images, labels, normalise, recipe, CpuDevice(None, Request()))
        batches.start_epoch(session, 3)
        expected, expected_labels = session.run([batches.images, batches.labels])
    order = rng.epoch_order(recipe.seed, 3, count).astype(np.int32)
    numbers = {"order": order, **drawn(recipe, 3, count, 32)}
    assert {numbers["top"].min(), numbers["top"].max()} == {0, 8}
    data = keras_step.DataSet(images.reshape(-1, 3), labels, 32)
    found = keras_step.augmented(keras_step.images_of(data, numbers, normalise, 4), numbers)
    np.testing.assert_allclose(np.asarray(found), expected, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(labels[order], expected_labels)


def test_losses_and_hits_of_mixed_labels_are_the_graphs():
    import tensorflow as tf

    from tf_seresnet.step import losses
    from tf_seresnet.step.input_pipeline import Batch

    random = np.random.RandomState(0)
    logits = random.standard_normal((40, 10)).astype(np.float32)
    logits[:9] = np.round(logits[:9])  # ties
    labels = random.randint(0, 10, 40).astype(np.int32)
    for share in (None, random.uniform(0, 1, 40).astype(np.float32)):
        others = np.roll(labels, 1)
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            batch = Batch(None, tf.constant(labels), None if share is None else tf.constant(others), share)
            tensor = tf.constant(logits)
            expected, hits = session.run([losses.mean_loss(tensor, batch, 0.1), losses.hits(tensor, batch)])
        numbers = {} if share is None else {"share": share}
        loss, counted = keras_step.mean_loss(keras_step.ops.array(logits), keras_step.ops.array(labels), numbers, 0.1)
        assert float(loss) == pytest.approx(float(expected), rel=1e-6)
        assert [int(hit) for hit in keras_step._hits(keras_step.ops.array(logits), counted)] == list(hits)


def test_a_step_says_that_a_program_is_compiled_for_its_number_of_images(sample_folder, monkeypatch):
    """JAX, and XLA under TensorFlow, compile one for the last, shorter batch of the first epoch."""
    asked = "--layers keras --recipe sample --variant paper --depth 8 --batch-size 500 --steps-per-call 1 --device cpu"
    setup = RunSetup.from_config(command.RunConfig.from_argv([*asked.split(), "--data-path", str(sample_folder)]))
    network, backend = build(setup)
    backend.steps = lambda step: lambda state, data, block: (state, np.ones((1, 4)))
    step = KerasStep(setup, network, backend)
    step.start_epoch(0, 0)
    pending = [(number, 0.1) for number in range(setup.steps_per_epoch)]
    assert len(setup.data.train_images) % 500
    assert [one.compiled for one in step.read(pending)] == [True, *([False] * (len(pending) - 2)), True]
    assert not any(one.compiled for one in step.read(pending))


@pytest.mark.slow
def test_a_resumed_run_is_the_uninterrupted_one_and_every_layer_set_evaluates_it(train, tmp_path, sample_folder):
    whole = train("--layers", "keras", *EVERYTHING, name="whole")
    assert whole.status == 0
    assert whole.record["layers"] == "keras"
    assert whole.record["versions"]["backend"] == "tensorflow"
    assert {path.name for path in whole.folder.iterdir()} >= {"model.weights.h5", "config.json", "examples.json"}
    train("--layers", "keras", *EVERYTHING, "--max-steps", "2", name="part")
    resumed = train("--resume", str(tmp_path / "part"), "--print-freq", "1", name="part", short=False)
    assert (resumed.status, resumed.events("step")) == (0, whole.events("step"))
    arrays = [np.load(str(run.folder / "checkpoints" / "last" / "model.npz")) for run in (whole, resumed)]
    assert set(arrays[0].files) == set(arrays[1].files)
    for name in arrays[0].files:
        np.testing.assert_array_equal(arrays[0][name], arrays[1][name])
    for layers in ([], ["--layers", "core"]):
        folder = tmp_path / f"evaluated{len(layers)}"
        words = ["evaluate", "--device", "cpu", "--checkpoint", str(whole.folder), *layers]
        evaluated = Run(command.main([*words, "--output-dir", str(folder)]), folder).record
        assert evaluated["layers"] == (layers[1] if layers else "keras")
        assert evaluated["evaluation"]["top1"] == whole.record["evaluation"]["top1"]
        assert evaluated["evaluation"]["loss"] == pytest.approx(whole.record["evaluation"]["loss"], rel=1e-5)
    assert command.main(["--resume", str(whole.folder), "--layers", "core", "--device", "cpu"]) == 2
