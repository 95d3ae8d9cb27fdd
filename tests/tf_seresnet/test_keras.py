"""The Keras model against the graph: same weights, same logits, gradients and moving averages, on every backend.

Each backend runs once, in a process of its own (keras_probe.py), and the tests compare what it wrote with `core`.
"""
from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from shared.errors import UsageError
from tf_seresnet.initial_values import initial_value

ROOT = Path(__file__).resolve().parents[2]
BACKENDS = ["tensorflow", "jax", "torch"]
NETWORKS = {"port": 11, "paper": 8}
UPDATES = 3
IMAGES = 12  # few, so that hardly any of them meets ReLU at its kink, where rounding decides between two gradients
# Parts of the largest number of an array. Float32 rounds at 6e-8; sums over 24 x 32 x 32 pixels and ten layers of
# backpropagation in another order gather the rest.
LOGITS_TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 1e-4
STATISTICS_TOLERANCE = 1e-5


def _keras_3() -> bool:
    if importlib.util.find_spec("keras") is None:
        return False
    from importlib.metadata import version  # Python 3.8: there is no Keras 3 for older ones

    return int(version("keras").split(".")[0]) >= 3


pytestmark = pytest.mark.skipif(sys.version_info < (3, 8) or not _keras_3(), reason="needs Keras 3 (Python 3.9 or newer)")


def _run(arguments, backend):
    environment = dict(os.environ, KERAS_BACKEND=backend, PYTHONPATH=str(ROOT), TF_CPP_MIN_LOG_LEVEL="2")
    done = subprocess.run([sys.executable, *map(str, arguments)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keras")
    random = np.random.RandomState(1)
    np.save(folder / "images.npy", random.standard_normal((IMAGES, 32, 32, 3)).astype(np.float32))
    np.save(folder / "labels.npy", random.randint(0, 10, IMAGES).astype(np.int32))
    return folder


@pytest.fixture(scope="module")
def graph(folder):
    """What `core` computes, under the names that keras_probe.py uses. Writes the weights for it, too."""
    images, labels = np.load(folder / "images.npy"), np.load(folder / "labels.npy")
    found = {}
    for variant, depth in NETWORKS.items():
        found.update((f"{variant}/{name}", value) for name, value in _graph(folder, variant, depth, images, labels))
    return found


def _graph(folder, variant, depth, images, labels):
    import tensorflow as tf

    from tf_seresnet.layers.core import CoreLayers
    from tf_seresnet.network import se_resnet

    tf1 = tf.compat.v1
    batches = np.split(images, UPDATES)
    with tf.Graph().as_default(), tf1.Session() as session:
        feed = tf1.placeholder(tf.float32, (None, 32, 32, 3))
        logits = {"training": se_resnet(feed, CoreLayers(), depth, variant, training=True)}
        updates = tf1.get_collection(tf1.GraphKeys.UPDATE_OPS)
        logits["inference"] = se_resnet(feed, CoreLayers(reuse=True), depth, variant, training=False)
        trainable, variables = tf1.trainable_variables(), tf1.global_variables()
        values = _weights([(v.op.name, tuple(v.shape.as_list())) for v in variables])
        np.savez(folder / f"{variant}.npz", **values)
        yield "values", values
        for variable in variables:
            variable.load(values[variable.op.name], session)
        tf1.train.Saver().save(session, str(folder / f"{variant}.ckpt"), latest_filename=f"{variant}.latest")
        for mode, tensor in logits.items():
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels[: len(batches[0])], logits=tensor))
            value, slopes = session.run([tensor, tf1.gradients(loss, trainable)], {feed: batches[0]})
            yield f"logits/{mode}", value
            for variable, slope in zip(trainable, slopes):
                yield f"gradient/{mode}/{variable.op.name}", slope
        for batch in batches:
            session.run(updates, {feed: batch})
        for variable in variables:
            yield f"updated/{variable.op.name}", session.run(variable)


def _weights(variables):
    """Values that leave no term of the network at 0 or 1: a wrong one would show. Every other BN has a history."""
    random = np.random.RandomState(3)
    values = {}
    for name, shape in variables:
        kind = name.rsplit("/", 1)[1]
        if kind == "local_step":
            steps = 5.0 * (len(values) % 2)
            values[name] = np.float32(steps)
            values[name.replace(kind, "biased")] *= np.float32(steps > 0)
        elif kind == "kernel":
            values[name] = initial_value(name, shape, 5)
        elif kind in ("gamma", "moving_variance"):
            values[name] = random.uniform(0.5, 1.5, shape).astype(np.float32)
        elif kind == "beta":  # away from ReLU's kink
            values[name] = (random.choice([-1.0, 1.0], shape) * random.uniform(2, 3, shape)).astype(np.float32)
        else:
            values[name] = random.normal(0, 0.3, shape).astype(np.float32)
    return values


@pytest.fixture(scope="module", params=BACKENDS)
def probe(request, folder, graph):
    """(backend, its numbers)."""
    backend = request.param
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"the Keras backend {backend} is not installed")
    _run([Path(__file__).with_name("keras_probe.py"), folder], backend)
    with np.load(folder / f"{backend}.npz") as found:
        return backend, dict(found)


def _agree(found, expected, names, tolerance):
    """Every array within `tolerance` of its largest number (of a thousandth of the largest of all, at least)."""
    assert names
    floor = 1e-3 * max(np.abs(expected[name]).max() for name in names)
    errors = {name: np.abs(found[name] - expected[name]).max() for name in names}
    worst = {name: errors[name] / max(np.abs(expected[name]).max(), floor) for name in names}
    name = max(worst, key=worst.__getitem__)
    print("worst", tolerance, name, worst[name])
    assert worst[name] <= tolerance, name


def _named(expected, start):
    return [name for name in expected if name.startswith(start)]


@pytest.mark.parametrize("variant", NETWORKS)
@pytest.mark.parametrize("mode", ["training", "inference"])
class TestSameNumbers:
    def test_logits(self, probe, graph, variant, mode):
        assert probe[1][f"{variant}/logits/{mode}"].dtype == np.float32
        _agree(probe[1], graph, [f"{variant}/logits/{mode}"], LOGITS_TOLERANCE)

    def test_gradients(self, probe, graph, variant, mode):
        _agree(probe[1], graph, _named(graph, f"{variant}/gradient/{mode}"), GRADIENT_TOLERANCE)


@pytest.mark.parametrize("variant", NETWORKS)
class TestWeights:
    def test_a_fresh_model_is_a_fresh_graph(self, probe, graph, variant):
        names = {name[len(f"{variant}/fresh/") :] for name in probe[1] if name.startswith(f"{variant}/fresh/")}
        values = graph[f"{variant}/values"]
        assert names == set(values)
        for name in names:
            fresh = probe[1][f"{variant}/fresh/{name}"]
            np.testing.assert_array_equal(fresh, initial_value(name, values[name].shape, 7), strict=True)

    def test_moving_averages_after_updates(self, probe, graph, variant):
        _agree(probe[1], graph, _named(graph, f"{variant}/updated"), STATISTICS_TOLERANCE)
        steps = [name for name in _named(graph, f"{variant}/updated") if name.endswith("/local_step")]
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


class TestModel:
    def test_fit_learns(self, probe):
        losses = probe[1]["fit"]
        assert losses[-1] < 0.9 * losses[0]

    def test_weight_decay_is_l2_loss_over_all_trainable_variables(self, probe, graph):
        names = [name[len("paper/gradient/training/") :] for name in _named(graph, "paper/gradient/training/")]
        shapes = {name: value.shape for name, value in graph["paper/values"].items()}
        half = sum(0.5 * np.square(initial_value(name, shapes[name], 0), dtype=np.float64).sum() for name in names)
        assert probe[1]["decay"] == pytest.approx(1e-4 * half, rel=1e-5)

    def test_saved_model_loads(self, probe):
        np.testing.assert_array_equal(probe[1]["loaded"], probe[1]["saved"])
        assert probe[1]["loaded_decay"] > 0

    def test_mixed_precision(self, probe, graph):
        assert probe[1]["mixed/dtypes"].tolist() == ["bfloat16", "bfloat16", "float32", "float32"]
        for mine, mode in (("logits", "inference"), ("training", "training")):
            expected = graph[f"port/logits/{mode}"]
            error = np.abs(probe[1][f"mixed/{mine}"] - expected).max()
            assert 0 < error < 0.1 * np.abs(expected).max()  # bfloat16 has 8 bits, so it cannot be exact

    def test_only_its_own_backend_loads_tensorflow(self, probe):
        assert bool(probe[1]["tensorflow_loaded"]) == (probe[0] == "tensorflow")
