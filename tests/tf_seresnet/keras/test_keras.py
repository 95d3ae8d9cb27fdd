"""The Keras model against the graph, on every backend: same weights, logits, gradients and moving averages.

Each backend runs once in its own process (probe.py); the tests compare its results with `core`.
"""

from __future__ import annotations

import collections
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from shared.errors import UsageError
from tf_seresnet.layers.initial_values import initial_value

ROOT = Path(__file__).resolve().parents[3]
BACKENDS = ["tensorflow", "jax", "torch"]
NETWORKS = {"port": 11, "paper": 8}
UPDATES = 3
# Few, so that hardly any activation is near ReLU's kink, where rounding decides between two gradients.
IMAGES = 12
# Relative to the largest value of a layer. Float32 rounds at 6e-8; sums over thousands of pixels in another order and
# ten layers of backpropagation account for the rest, up to 1.7e-4 on a processor without AVX-512.
LOGITS_TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 5e-4
STATISTICS_TOLERANCE = 1e-5


def _keras_3() -> bool:
    if importlib.util.find_spec("keras") is None:
        return False
    if sys.version_info < (3, 9):
        return False
    from importlib.metadata import version

    return int(version("keras").split(".")[0]) >= 3


# NumPy 2.4 warns about Keras's own conversion of TensorFlow variables.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
needs_keras = pytest.mark.skipif(not _keras_3(), reason="Keras 3 is not installed (it needs Python 3.9)")


def _run(arguments, backend):
    # XLA compiles in half the time without its optimisations; torch's threads would wait for each other.
    environment = dict(
        os.environ,
        KERAS_BACKEND=backend,
        PYTHONPATH=str(ROOT),
        TF_CPP_MIN_LOG_LEVEL="2",
        XLA_FLAGS="--xla_backend_optimization_level=0",
        OMP_NUM_THREADS="1",
    )
    command = [sys.executable, *map(str, arguments)]
    process = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keras")
    random = np.random.RandomState(1)
    np.save(folder / "images.npy", random.standard_normal((IMAGES, 32, 32, 3)).astype(np.float32))
    np.save(folder / "labels.npy", random.randint(0, 10, IMAGES).astype(np.int32))
    return folder


# Command lines of trainings: the documented one, which Keras computes two steps a call, and one with all that there is
# besides, whose last batch is short. The first is small: on a CPU XLA takes a hundred times as long for a convolution
# inside of a loop.
SHORT = "--recipe sample --variant paper --depth 8 --batch-size 500 --epochs 1 --learning-rate 0.1 --device cpu"
TRAININGS = {
    "plain": f"{SHORT} --batch-size 8 --steps-per-epoch 4 --print-freq 2 --learning-rate 0.01",
    "all": f"{SHORT} --decayed weights --label-smoothing 0.1 --mixup 0.2 --cutmix 1 --mixed 0.7 --cutout 8 --every-step"
    " --drop-path 0.1 --zero-init --ema-decay 0.9",
}


@pytest.fixture(scope="module")
def of_graphs(folder, sample_folder):
    """The losses of each of the trainings in a graph; their command lines are written for probe.py."""
    from tests.tf_seresnet.keras.probe import losses
    from tf_seresnet.main import main

    words = {name: [*line.split(), "--data-path", str(sample_folder)] for name, line in TRAININGS.items()}
    (folder / "trainings.json").write_text(json.dumps(words))
    for name, line in words.items():
        assert main([*line, "--output-dir", str(folder / name)]) == 0
    return {name: losses(folder / name) for name in words}


@pytest.fixture(scope="module")
def graph(folder):
    """The results of `core` under the names of probe.py, for which it also writes the weights."""
    images, labels = np.load(folder / "images.npy"), np.load(folder / "labels.npy")
    found = {}
    for variant, depth in NETWORKS.items():
        values = _graph(folder, variant, depth, images, labels)
        found.update((f"{variant}/{name}", value) for name, value in values)
    return found


def _graph(folder, variant, depth, images, labels):
    import tensorflow as tf

    from tf_seresnet.layers.core import CoreLayers
    from tf_seresnet.network import se_resnet

    tf1 = tf.compat.v1
    batches = np.split(images, UPDATES)
    with tf.Graph().as_default(), tf1.Session() as session:
        feed = tf1.placeholder(tf.float32, (None, 32, 32, 3))
        layers = CoreLayers()
        logits = {"training": se_resnet(feed, layers, depth, variant, training=True)}
        updates = layers.update_averages(layers.batch_statistics())
        logits["inference"] = se_resnet(feed, CoreLayers(reuse=True), depth, variant, training=False)
        trainable, variables = tf1.trainable_variables(), tf1.global_variables()
        values = _weights([(v.op.name, tuple(v.shape.as_list())) for v in variables])
        np.savez(folder / f"{variant}.npz", **values)
        yield "values", values
        start = {v.initializer.inputs[1]: values[v.op.name] for v in variables}
        session.run([v.initializer for v in variables], start)
        tf1.train.Saver().save(session, str(folder / f"{variant}.ckpt"), latest_filename=f"{variant}.latest")
        for mode, tensor in logits.items():
            batch_labels = labels[: len(batches[0])]
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=batch_labels, logits=tensor)
            gradients = tf1.gradients(tf.reduce_mean(loss), trainable)
            value, gradients = session.run([tensor, gradients], {feed: batches[0]})
            yield f"logits/{mode}", value
            for variable, gradient in zip(trainable, gradients):
                yield f"gradient/{mode}/{variable.op.name}", gradient
        for batch in batches:
            session.run(updates, {feed: batch})
        for variable, value in zip(variables, session.run(variables)):
            yield f"updated/{variable.op.name}", value


def _weights(variables):
    """Values that leave no term at 0 or 1, where an error could hide. The first BN has seen no batch yet."""
    random = np.random.RandomState(3)
    values = {}
    for name, shape in variables:
        kind = name.rsplit("/", 1)[1]
        if kind == "local_step":
            fresh = not any(name.endswith(kind) for name in values)
            values[name] = np.float32(0 if fresh else 5)
            values[name.replace(kind, "biased")] *= values[name]
        elif kind == "kernel":
            values[name] = initial_value(name, shape, 5)
        elif kind in ("gamma", "moving_variance"):
            values[name] = random.uniform(0.5, 1.5, shape).astype(np.float32)
        elif kind == "beta":  # away from ReLU's kink
            sign = random.choice([-1.0, 1.0], shape)
            values[name] = (sign * random.uniform(2, 3, shape)).astype(np.float32)
        else:
            values[name] = random.normal(0, 0.3, shape).astype(np.float32)
    return values


@pytest.fixture(scope="module", params=BACKENDS)
def probe(request, folder, graph, of_graphs):
    """(backend, its results by name)."""
    backend = request.param
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"the Keras backend {backend} is not installed")
    _run([Path(__file__).with_name("probe.py"), folder], backend)
    with np.load(folder / f"{backend}.npz") as found:
        return backend, dict(found)


def _agree(found, expected, names, tolerance):
    """Every array within `tolerance` of the largest value of its layer (or a thousandth of the largest of all).

    The scale is the layer's, not the array's: the gradient of a bias before a batch normalisation is a sum that cancels
    almost completely, so that rounding dominates it.
    """
    assert names
    scales = collections.defaultdict(float)
    for name in names:
        scales[_layer(name)] = max(scales[_layer(name)], np.abs(expected[name]).max())
    floor = 1e-3 * max(scales.values())
    for name in names:
        error = np.abs(found[name] - expected[name]).max()
        assert error <= tolerance * max(scales[_layer(name)], floor), name


def _layer(name):
    """port/gradient/training/conv2d_3 of port/gradient/training/conv2d_3/bias."""
    return name.rsplit("/", 1)[0]


def _names(arrays, start):
    return [name for name in arrays if name.startswith(start)]


@needs_keras
@pytest.mark.slow
@pytest.mark.parametrize("variant", NETWORKS)
@pytest.mark.parametrize("mode", ["training", "inference"])
class TestSameNumbers:
    def test_logits(self, probe, graph, variant, mode):
        assert probe[1][f"{variant}/logits/{mode}"].dtype == np.float32
        _agree(probe[1], graph, [f"{variant}/logits/{mode}"], LOGITS_TOLERANCE)

    def test_gradients(self, probe, graph, variant, mode):
        _agree(probe[1], graph, _names(graph, f"{variant}/gradient/{mode}"), GRADIENT_TOLERANCE)


@needs_keras
@pytest.mark.slow
@pytest.mark.parametrize("variant", NETWORKS)
class TestWeights:
    def test_a_fresh_model_is_a_fresh_graph(self, probe, graph, variant):
        start = f"{variant}/fresh/"
        names = {name[len(start) :] for name in _names(probe[1], start)}
        values = graph[f"{variant}/values"]
        assert names == set(values)
        for name in names:
            fresh = probe[1][f"{variant}/fresh/{name}"]
            np.testing.assert_array_equal(fresh, initial_value(name, values[name].shape, 7), strict=True)

    def test_moving_averages_after_updates(self, probe, graph, variant):
        _agree(probe[1], graph, _names(graph, f"{variant}/updated"), STATISTICS_TOLERANCE)
        steps = [name for name in _names(graph, f"{variant}/updated") if name.endswith("/local_step")]
        assert {float(probe[1][name]) for name in steps} == {3.0, 8.0}

    def test_from_the_graph_and_back_bit_for_bit(self, probe, graph, folder, variant):
        import tensorflow as tf

        values = graph[f"{variant}/values"]
        reader = tf.train.load_checkpoint(str(folder / f"{probe[0]}-{variant}.ckpt"))
        assert set(reader.get_variable_to_shape_map()) == set(values)
        for name, value in values.items():
            restored = probe[1][f"{variant}/restored/{name}"]
            np.testing.assert_array_equal(restored, value, strict=True)
            np.testing.assert_array_equal(reader.get_tensor(name), value)


@needs_keras
@pytest.mark.slow
class TestModel:
    def test_fit_learns(self, probe):
        if probe[0] == "tensorflow":
            losses = probe[1]["fit"]
            assert losses[-1] < 0.9 * losses[0]

    @pytest.mark.parametrize("training", TRAININGS)
    def test_the_command_trains_as_the_graph(self, probe, of_graphs, training):
        """Losses of the steps and of the evaluation; rounding is another from the first convolution on."""
        found, expected = probe[1][f"trained/{training}"], of_graphs[training]
        assert len(found) == len(expected) == (5 if training == "plain" else 3)
        np.testing.assert_allclose(found[:2], expected[:2], rtol=1e-5)
        np.testing.assert_allclose(found, expected, rtol=5e-5)

    def test_saved_model_loads(self, probe, graph):
        np.testing.assert_array_equal(probe[1]["loaded"], probe[1]["saved"])
        assert len(probe[1]["loaded/decayed"]) == len(_names(graph, "paper/gradient/training/"))

    def test_mixed_precision(self, probe, graph):
        assert probe[1]["mixed/dtypes"].tolist() == ["bfloat16", "bfloat16", "float32"]
        assert probe[1]["mixed/finite"]
        logits, expected = probe[1]["mixed/logits"], graph["paper/logits/training"]
        assert logits.dtype == np.float32
        assert 0 < np.abs(logits - expected).max() < 0.1 * np.abs(expected).max()  # bfloat16 has 8 bits

    def test_only_its_own_backend_loads_tensorflow(self, probe):
        assert bool(probe[1]["tensorflow_loaded"]) == (probe[0] == "tensorflow")


@needs_keras
@pytest.mark.parametrize(("variant", "parameters"), [("port", 3_504_422), ("paper", 1_740_048)])
@pytest.mark.slow
def test_parameters_at_depth_110(variant, parameters):
    from tf_seresnet.keras import se_resnet110

    model = se_resnet110(variant)
    assert sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) == parameters


@needs_keras
def test_weight_decay_is_l2_loss_over_all_trainable_variables():
    from tf_seresnet.keras import se_resnet

    model = se_resnet(11, weight_decay=1e-4)
    values = [value for name, value in _weights_of(model).items() if not _is_average(name)]
    assert len(values) == len(model.trainable_variables)
    half = sum(np.square(value, dtype=np.float64).sum() for value in values) / 2
    assert float(sum(model.losses)) == pytest.approx(1e-4 * half, rel=1e-5)


def _is_average(name):
    return name.endswith(("/moving_mean", "/moving_variance", "/biased", "/local_step"))


@pytest.fixture(scope="module")
def built():
    from tf_seresnet.keras import se_resnet

    return se_resnet(11)


@pytest.fixture
def model(built):
    """A model of depth 11, built once; every weight is reset to 0."""
    for weight in built.weights:
        weight.assign(np.zeros(weight.shape))
    return built


@pytest.fixture
def values(model):
    """Weights for the model by the graph's names."""
    from tf_seresnet.keras import graph_variables

    return _weights([(name, tuple(variable.shape)) for name, variable in graph_variables(model).items()])


def _write(prefix, values, **saving):
    """Write a checkpoint of exactly these values, as a graph would."""
    import tensorflow as tf

    tf1 = tf.compat.v1
    with tf.Graph().as_default(), tf1.Session() as session:
        variables = {name: tf1.get_variable(name, initializer=value) for name, value in values.items()}
        session.run(tf1.global_variables_initializer())
        return tf1.train.Saver(variables, **saving).save(session, str(prefix), write_meta_graph=False)


def _weights_of(model):
    from tf_seresnet.keras import graph_variables
    from tf_seresnet.keras.layers import keras

    return {name: keras.ops.convert_to_numpy(variable) for name, variable in graph_variables(model).items()}


def _equal(found, expected):
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


@needs_keras
def test_the_model_of_this_process_agrees_with_the_graph(model, values):
    """Logits on this process's backend; the tests above compare every backend, gradients included."""
    import tensorflow as tf

    from tf_seresnet.keras import graph_variables
    from tf_seresnet.layers.core import CoreLayers
    from tf_seresnet.network import se_resnet

    tf1 = tf.compat.v1
    images = np.random.RandomState(1).standard_normal((2, 32, 32, 3)).astype(np.float32)
    with tf.Graph().as_default(), tf1.Session() as session:
        logits = se_resnet(tf.constant(images), CoreLayers(), NETWORKS["port"], "port", training=False)
        variables = tf1.global_variables()
        feeds = {v.initializer.inputs[1]: values[v.op.name] for v in variables}
        session.run([v.initializer for v in variables], feeds)
        expected = session.run(logits)
    for name, variable in graph_variables(model).items():
        variable.assign(values[name])
    found = np.asarray(model(images, training=False))
    _agree({"logits": found}, {"logits": expected}, ["logits"], LOGITS_TOLERANCE)


@needs_keras
@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="TensorFlow is not installed")
class TestLoadCheckpoint:
    def test_ignores_the_state_of_training(self, model, values, tmp_path):
        from tf_seresnet.keras import load_checkpoint

        state = {f"{name}/Momentum": value for name, value in values.items()}
        state.update(is_training=True, global_step=np.int64(391), loss_scale=np.float32(1024))
        prefix = _write(tmp_path / "model.ckpt", {**values, **state})
        report = load_checkpoint(model, prefix)
        _equal(_weights_of(model), values)
        assert (report.path, report.matched, report.total) == (prefix, len(values), len(values))
        assert (report.left_new, report.notes) == ((), ())
        assert set(report.ignored) == set(state)
        first, unused = report.lines()
        assert first == f"{len(values)} of {len(values)} variables loaded from {prefix}"
        assert unused.startswith("in the checkpoint and not used: BatchNorm")

    @pytest.mark.parametrize("path", ["", "model.ckpt-7", "model.ckpt-7.index"])
    def test_takes_a_folder_a_prefix_or_a_file(self, model, values, tmp_path, path):
        from tf_seresnet.keras import load_checkpoint

        _write(tmp_path / "model.ckpt-7", values)
        load_checkpoint(model, tmp_path / path)
        _equal(_weights_of(model), values)

    def test_says_that_the_newest_checkpoint_of_a_run_is_damaged(self, finished):
        from tf_seresnet.keras import load_checkpoint, se_resnet

        run = finished()
        (run.folder / "checkpoints" / "last" / "state.json").write_text("?")
        model = se_resnet(8, "paper")
        report = load_checkpoint(model, run.folder)
        assert report.path == str(run.folder / "checkpoints" / "step-00000003" / "model.ckpt")
        assert "step-00000006" in report.lines()[0]
        assert report.lines()[0] == report.notes[0]
        assert all(name.endswith("/Momentum") for name in report.ignored)

    def test_takes_the_first_format_of_tensorflow_1(self, model, values, tmp_path):
        import tensorflow as tf

        from tf_seresnet.keras import load_checkpoint

        version = tf.compat.v1.train.SaverDef.V1
        load_checkpoint(model, _write(tmp_path / "model.ckpt", values, write_version=version))
        _equal(_weights_of(model), values)

    def test_without_debiasing_state_training_goes_on_from_the_moving_mean(self, model, values, tmp_path):
        from tf_seresnet.keras import load_checkpoint

        old = {name: value for name, value in values.items() if not name.endswith(("/biased", "/local_step"))}
        report = load_checkpoint(model, _write(tmp_path / "model.ckpt", old))
        assert set(report.left_new) == set(values) - set(old)
        assert (report.matched, report.total, report.ignored) == (len(old), len(values), ())
        assert "set to go on from the moving means: BatchNorm" in "\n".join(report.lines())
        for name, value in _weights_of(model).items():
            if name.endswith("/biased"):
                np.testing.assert_array_equal(value, values[name.split("/", 1)[1].rsplit("/", 1)[0]])
            elif name.endswith("/local_step"):
                assert np.power(np.float32(0.9), value) == 0
            else:
                np.testing.assert_array_equal(value, values[name])

    def test_refuses_another_network_and_keeps_the_weights(self, model, values, tmp_path):
        from tf_seresnet.keras import load_checkpoint

        before = _weights_of(model)
        wrong = dict(values)
        wrong["dense_26/kernel"] = np.zeros((256, 100), np.float32)
        wrong["conv2d_77/kernel"] = np.zeros((1, 1, 3, 3), np.float32)
        del wrong["conv2d_4/bias"], wrong["BatchNorm_2/BatchNorm_2/moving_mean/biased"]
        assert "dense_26/kernel" in values
        with pytest.raises(UsageError) as error:
            load_checkpoint(model, _write(tmp_path / "model.ckpt", wrong))
        message = str(error.value)
        assert "\n" not in message
        assert "conv2d_4/bias is missing" in message
        assert "BatchNorm_2/BatchNorm_2/moving_mean/biased is missing" in message
        assert "dense_26/kernel has shape [256, 100] instead of [256, 10]" in message
        assert "conv2d_77/kernel is unexpected" in message
        _equal(_weights_of(model), before)

    @pytest.mark.parametrize("content", ["nothing", "an empty folder", "another file"])
    def test_refuses_what_is_not_a_checkpoint(self, model, tmp_path, content):
        from tf_seresnet.keras import load_checkpoint

        if content == "an empty folder":
            (tmp_path / "model.ckpt").mkdir()
        elif content == "another file":
            (tmp_path / "model.ckpt").write_text("?")
        with pytest.raises(UsageError, match="checkpoint"):
            load_checkpoint(model, tmp_path / "model.ckpt")

    def test_save_refuses_a_folder_that_cannot_be_made(self, model, tmp_path):
        from tf_seresnet.keras import save_checkpoint

        (tmp_path / "file").write_text("")
        with pytest.raises(UsageError, match="cannot write the checkpoint"):
            save_checkpoint(model, tmp_path / "file" / "model.ckpt")

    def test_needs_tensorflow(self, model, tmp_path, monkeypatch):
        from tf_seresnet.keras import load_checkpoint, save_checkpoint

        monkeypatch.setitem(sys.modules, "tensorflow", None)
        for function in (load_checkpoint, save_checkpoint):
            with pytest.raises(UsageError, match="TensorFlow"):
                function(model, tmp_path / "model.ckpt")


@pytest.mark.skipif(_keras_3(), reason="Keras 3 is installed")
def test_without_keras_3_one_line_says_so():
    with pytest.raises(UsageError, match="needs Keras 3"):
        import tf_seresnet.keras  # noqa: F401
