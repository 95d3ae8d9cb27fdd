"""A step of the TensorFlow graph beside the reference: clean ones agree, faults planted in the graph are found."""

from __future__ import annotations

import re

import numpy as np
import pytest

from shared.errors import UsageError
from shared.port_check.findings import verdict

tf = pytest.importorskip("tensorflow")

from tf_seresnet import check_port, network  # noqa: E402
from tf_seresnet.layers.core import CoreLayers  # noqa: E402
from tf_seresnet.options import RunConfig  # noqa: E402
from tf_seresnet.port_check import recorder  # noqa: E402
from tf_seresnet.port_check.checks import step_checks, weight_checks  # noqa: E402
from tf_seresnet.step import training_step, variables  # noqa: E402
from tf_seresnet.step.input_pipeline import Normalisation  # noqa: E402

tf1 = tf.compat.v1
PAPER, PORT = "--variant paper --depth 8".split(), "--variant port --depth 11".split()


@pytest.fixture
def step(sample_folder):
    """step(*options) records a step and returns the verdict on it."""

    def record(*options, spoil=lambda session: None):
        words = "check-port --device cpu --recipe sample --data-path".split() + [str(sample_folder), *options]
        setup = check_port._setup(RunConfig.from_argv(words), None)

        def initialise(session):
            variables.initialise(session, setup.recipe.seed)
            spoil(session)

        trace = recorder.record_step(setup, check_port._first_batch(setup), 0.1, 1, initialise)
        weights = check_port._given_weights(setup, trace, None)
        return verdict(weight_checks(weights, trace) + step_checks(setup.recipe, trace))

    return record


def at(check):
    return (check.stage, check.layer, check.quantity)


def only_in(layer, make):
    """A method of `CoreLayers` that builds another graph for the layer of this name: `make(original, *arguments)`."""

    def method(original):
        def built(self, *arguments, **options):
            kind = layer.rstrip("_0123456789")
            count = self._counts[kind]
            if layer != (f"{kind}_{count}" if count else kind):
                return original(self, *arguments, **options)
            return make(original, self, *arguments, **options)

        return built

    return method


@pytest.fixture
def planted(monkeypatch):
    """planted(owner, name, make) replaces a function by make(function)."""

    def plant(owner, name, make):
        monkeypatch.setattr(owner, name, make(getattr(owner, name)))

    return plant


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [PAPER, PORT, [*PORT, "--loss-scale", "1024"]], ids=["paper", "port", "loss scale of 1024"]
)
def test_a_clean_step_agrees(options, step):
    found = step(*options)
    assert found.first is None
    assert {check.stage for check in found.checks} == {"weights", "forward", "loss", "backward", "statistics", "update"}


@pytest.mark.slow
def test_a_clean_step_of_slim_agrees(step):
    try:
        found = step(*PORT, "--layers", "slim")
    except UsageError as error:  # tf-slim and tflearn end at TensorFlow 2.12
        pytest.skip(str(error))
    assert found.first is None


@pytest.mark.slow
@pytest.mark.once
def test_a_step_in_bfloat16_agrees(step):
    assert _in_precision(step, "bf16").first is None


def _in_precision(step, precision):
    try:
        return step(*PORT, "--precision", precision)
    except UsageError as error:  # this processor and TensorFlow have none
        return pytest.skip(str(error))


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["O0", "bf16"])
def test_another_epsilon(precision, step, planted, monkeypatch):
    def wrong(original, *arguments, **options):
        with monkeypatch.context() as changed:
            changed.setattr("tf_seresnet.layers.core.BATCH_NORM_EPSILON", 1e-5)
            return original(*arguments, **options)

    planted(CoreLayers, "batch_norm", only_in("BatchNorm_3", wrong))
    assert at(_in_precision(step, precision).first) == ("forward", "BatchNorm_3", "output")


@pytest.mark.slow
def test_batch_normalisation_in_the_wrong_mode(step, planted):
    wrong = only_in("BatchNorm_1", lambda original, self, x, training: original(self, x, False))
    planted(CoreLayers, "batch_norm", wrong)
    found = step(*PAPER)
    assert at(found.first) == ("forward", "BatchNorm_1", "output")
    assert "statistics" in {check.stage for check in found.causes}


@pytest.mark.slow
def test_one_wrong_weight(step):
    def spoil(session):
        (kernel,) = [v for v in tf1.global_variables() if v.op.name == "conv2d_2/kernel"]
        value = session.run(kernel)
        value[0, 0, 3, 4] *= 1.001
        variables.load_values(session, {"conv2d_2/kernel": value})

    found = step(*PAPER, spoil=spoil)
    assert [at(check) for check in found.causes] == [("weights", "conv2d_2", "kernel")]
    assert found.first.worst.endswith("at [0, 0, 3, 4]")


@pytest.mark.slow
def test_a_transposed_kernel(step, planted, monkeypatch):
    convolve = tf.nn.conv2d

    def wrong(original, *arguments, **options):
        with monkeypatch.context() as changed:
            changed.setattr(tf.nn, "conv2d", lambda x, k, **o: convolve(x, tf.transpose(k, [1, 0, 2, 3]), **o))
            return original(*arguments, **options)

    planted(CoreLayers, "conv", only_in("conv2d_3", wrong))
    found = step(*PAPER)
    assert at(found.first) == ("forward", "conv2d_3", "output")
    assert {check.layer for check in found.causes} == {"conv2d_3"}


@pytest.mark.slow
def test_swapped_channels_of_the_images(step, planted):
    colours = np.random.RandomState(0).randint(0, 256, (4, 32, 32, 3)).astype(np.uint8)  # the sample's digits are grey
    planted(check_port, "_first_batch", lambda original: lambda setup: original(setup)._replace(images=colours))
    planted(Normalisation, "__call__", lambda original: lambda self, images: original(self, images)[..., ::-1])
    found = step(*PAPER)
    assert [at(check) for check in found.causes] == [("forward", "images", "output")]
    assert found.first.hint == "the channels are in reverse order"


@pytest.mark.slow
def test_a_stale_moving_mean(step, planted):
    def stale(original):
        def update(self, statistics, assign):
            kept = re.compile("BatchNorm_2/moving_mean$").search
            return original(self, statistics, lambda v, value: assign(v, v if kept(v.op.name) else value))

        return update

    planted(CoreLayers, "update_averages", stale)
    assert [at(check) for check in step(*PAPER).causes] == [("statistics", "BatchNorm_2", "moving_mean")]


@pytest.mark.slow
def test_the_gate_after_the_addition(step, planted, monkeypatch):
    gate, add = network._excite, recorder.RecordedLayers.add

    def after(original):
        def build(*arguments, **options):
            with monkeypatch.context() as changed:
                changed.setattr(network, "_excite", lambda x, layers, channels: x)
                late = lambda self, x, y: gate(add(self, x, y), self, int(y.shape[-1]))  # noqa: E731
                changed.setattr(recorder.RecordedLayers, "add", late)
                return original(*arguments, **options)

        return build

    planted(recorder.RecordedNetwork, "build", after)
    found = step(*PAPER)
    assert at(found.first) == ("forward", "global_average_pool", "order")
    assert found.first.worst == "the network has global_average_pool where the side had add"


@pytest.mark.slow
def test_weight_decay_on_the_wrong_variables(step, planted):
    def without(original):
        return lambda variable: tf.zeros(()) if "gamma" in variable.op.name else original(variable)

    planted(tf.nn, "l2_loss", without)
    found = step(*PAPER)
    assert at(found.first) == ("backward", "BatchNorm_6", "gamma gradient")
    assert {check.quantity for check in found.causes} == {"gamma gradient"}


@pytest.mark.slow
def test_a_loss_with_label_smoothing(step, planted):
    def smoothed(original):
        def loss(labels, logits):
            target = 0.9 * tf.one_hot(labels, 10) + 0.01
            return tf1.nn.softmax_cross_entropy_with_logits_v2(labels=target, logits=logits)

        return loss

    planted(tf.nn, "sparse_softmax_cross_entropy_with_logits", smoothed)
    found = step(*PAPER)
    assert [at(check) for check in found.causes] == [("loss", "", "loss"), ("backward", "loss", "logits gradient")]


@pytest.mark.slow
def test_a_loss_scale_applied_twice(step, planted):
    optimizer = tf1.train.MomentumOptimizer
    planted(optimizer, "compute_gradients", lambda original: lambda self, loss, **k: original(self, loss * 1024.0, **k))
    found = step(*PAPER, "--loss-scale", "1024")
    assert at(found.first) == ("backward", "loss", "logits gradient")
    assert found.first.hint == "all values are 1024 times the right ones"


@pytest.mark.slow
def test_a_momentum_without_nesterov(step, monkeypatch):
    optimizer, train = tf1.train.MomentumOptimizer, training_step.tf1.train
    monkeypatch.setattr(train, "MomentumOptimizer", lambda rate, momentum, use_nesterov: optimizer(rate, momentum))
    found = step(*PAPER)
    assert found.first.stage == "update"
    assert found.first.hint == "all values are 0.52632 times the right ones" or found.first.units > 100


def test_the_values_show_their_precision():
    assert recorder._dtype(np.array([1.0, 0.5], np.float32), "bfloat16") == "bfloat16"
    assert recorder._dtype(np.array([1.0, 0.3], np.float32), "bfloat16") == "float32"
