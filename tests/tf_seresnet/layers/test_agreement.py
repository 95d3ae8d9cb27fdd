"""`layers.slim`, the documented stack, against `layers.core`: the same numbers, the same checkpoints."""

from __future__ import annotations

import collections

import numpy as np
import pytest

from shared.errors import UsageError
from tf_seresnet.layers.initial_values import initial_value
from tf_seresnet.network import se_resnet

tf = pytest.importorskip("tensorflow")
from tf_seresnet.layers.core import CoreLayers  # noqa: E402  (needs TensorFlow)
from tf_seresnet.layers.slim import SlimLayers  # noqa: E402

tf1 = tf.compat.v1
NETWORKS = [("port", 11), ("paper", 8)]
UPDATES = 3
IMAGES = 12
# Relative to the largest value of a layer. The operations are the same, so only their fusion may differ.
TOLERANCE = 1e-6

TOO_NEW = tuple(int(part) for part in tf.__version__.split(".")[:2]) > (2, 12)


def _why_slim_is_missing():
    if TOO_NEW:
        return f"tf-slim and tflearn end at TensorFlow 2.12 and this is {tf.__version__}"
    try:
        SlimLayers()
    except UsageError as error:
        return str(error)
    return ""


SLIM_IS_MISSING = _why_slim_is_missing()
needs_slim = pytest.mark.skipif(bool(SLIM_IS_MISSING), reason=SLIM_IS_MISSING)


class BuiltNetwork:
    """A graph with the network in training and in inference mode, and a session with its weights."""

    def __init__(self, layers, variant, depth):
        self.graph = tf.Graph()
        random = np.random.RandomState(1)
        self.images = random.standard_normal((IMAGES, 32, 32, 3)).astype(np.float32)
        self.labels = random.randint(0, 10, IMAGES).astype(np.int32)
        with self.graph.as_default():
            self.feed = tf1.placeholder(tf.float32, (None, 32, 32, 3))
            self.label_feed = tf1.placeholder(tf.int32, (None,))
            training_layers = layers()
            self.training = se_resnet(self.feed, training_layers, depth, variant, training=True)
            self.updates = training_layers.update_averages(training_layers.batch_statistics())
            self.inference = se_resnet(self.feed, layers(reuse=True), depth, variant, training=False)
            self.variables = tf1.global_variables()
            self.trainable = tf1.trainable_variables()
            self.gradients = {
                mode: tf1.gradients(self.loss(logits), self.trainable)
                for mode, logits in (("training", self.training), ("inference", self.inference))
            }
        self.session = tf1.Session(graph=self.graph)

    def loss(self, logits):
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=self.label_feed, logits=logits)
        return tf.reduce_mean(losses)

    def run(self, fetches, part=slice(None)):
        return self.session.run(fetches, {self.feed: self.images[part], self.label_feed: self.labels[part]})

    def load(self, values):
        feed = {variable.initializer.inputs[1]: values[variable.op.name] for variable in self.variables}
        self.session.run([variable.initializer for variable in self.variables], feed)

    def values(self):
        return {v.op.name: value for v, value in zip(self.variables, self.session.run(self.variables))}


def _weights(variables):
    """Values that leave no term of the network at 0 or 1, where an error could hide."""
    random = np.random.RandomState(3)
    values = {}
    for variable in variables:
        name, shape = variable.op.name, variable.shape.as_list()
        kind = name.rsplit("/", 1)[1]
        if kind == "local_step":
            values[name] = np.float32(5)
        elif kind == "kernel":
            values[name] = initial_value(name, shape, 5)
        elif kind in ("gamma", "moving_variance"):
            values[name] = random.uniform(0.5, 1.5, shape).astype(np.float32)
        elif kind == "beta":  # away from ReLU's kink, where rounding decides between two gradients
            sign = random.choice([-1.0, 1.0], shape)
            values[name] = (sign * random.uniform(2, 3, shape)).astype(np.float32)
        else:
            values[name] = random.normal(0, 0.3, shape).astype(np.float32)
    return values


@pytest.fixture(scope="module", params=NETWORKS, ids=["port", "paper"])
def pair(request):
    """(core, slim), with the same weights."""
    core, slim = BuiltNetwork(CoreLayers, *request.param), BuiltNetwork(SlimLayers, *request.param)
    yield core, slim
    core.session.close()
    slim.session.close()


@pytest.fixture
def graphs(pair):
    values = _weights(pair[0].variables)
    for graph in pair:
        graph.load(values)
    return pair


@needs_slim
class TestSameNetwork:
    def test_variables(self, pair):
        core, slim = pair
        assert [_description(v) for v in core.variables] == [_description(v) for v in slim.variables]
        assert [_description(v) for v in core.trainable] == [_description(v) for v in slim.trainable]

    @pytest.mark.parametrize("mode", ["training", "inference"])
    def test_logits_and_gradients(self, graphs, mode):
        core, slim = ((g.run(getattr(g, mode)), g.run(g.gradients[mode])) for g in graphs)
        assert np.abs(core[0] - slim[0]).max() <= TOLERANCE * np.abs(slim[0]).max()
        _agree(graphs[0].trainable, core[1], slim[1])

    def test_moving_averages(self, graphs):
        before = graphs[0].values()
        for start in range(0, IMAGES, IMAGES // UPDATES):
            for graph in graphs:
                graph.run(graph.updates, slice(start, start + IMAGES // UPDATES))
        core, slim = (graph.values() for graph in graphs)
        moved = [v for v in graphs[0].variables if v not in graphs[0].trainable]
        _agree(moved, [core[v.op.name] for v in moved], [slim[v.op.name] for v in moved])
        assert all((core[v.op.name] != before[v.op.name]).any() for v in moved)


def _description(variable):
    return variable.op.name, variable.shape.as_list(), variable.dtype.base_dtype


def _agree(variables, found, expected):
    """Each within TOLERANCE of the largest value of its layer: the gradient of a bias before BN is mostly rounding."""
    layers = [variable.op.name.rsplit("/", 1)[0] for variable in variables]
    scales = collections.defaultdict(float)
    for layer, value in zip(layers, expected):
        scales[layer] = max(scales[layer], np.abs(value).max())
    floor = 1e-3 * max(scales.values())
    for variable, layer, actual, value in zip(variables, layers, found, expected):
        assert np.abs(actual - value).max() <= TOLERANCE * max(scales[layer], floor), variable.op.name


@needs_slim
def test_a_checkpoint_of_the_original_restores_into_core(tmp_path):
    """It also holds momentum slots, the step and tflearn's is_training; core restores its own variables."""
    import tflearn

    slim = BuiltNetwork(SlimLayers, "port", 11)
    with slim.graph.as_default():
        tflearn.config.init_training_mode()
        step = tf1.train.get_or_create_global_step()
        with tf1.control_dependencies(slim.updates):
            train = tf1.train.MomentumOptimizer(0.01, 0.9, use_nesterov=True).minimize(
                slim.loss(slim.training), step, slim.trainable
            )
        slim.session.run(tf1.global_variables_initializer())
        slim.load(_weights(slim.variables))
        slim.run(train)
        path = tf1.train.Saver().save(slim.session, str(tmp_path / "model.ckpt"))
    saved = {name for name, _ in tf.train.list_variables(path)}
    assert {"is_training", "global_step", "conv2d/kernel/Momentum"} < saved
    core = BuiltNetwork(CoreLayers, "port", 11)
    with core.graph.as_default():
        tf1.train.Saver(core.variables).restore(core.session, path)
    trained, restored = slim.values(), core.values()
    of_training = {name for name in saved if name.endswith("/Momentum")} | {"is_training", "global_step"}
    assert saved - of_training == set(trained) == set(restored)
    for name, value in trained.items():
        np.testing.assert_array_equal(restored[name], value, err_msg=name)
    slim.session.close()
    core.session.close()


@pytest.mark.skipif(not TOO_NEW, reason="slim runs with this TensorFlow")
def test_slim_is_refused_in_one_line_where_it_cannot_run():
    with pytest.raises(UsageError, match="use --layers core") as error:
        SlimLayers()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("variant", "depth", "counts"), [("port", 11, (13, 10, 27)), ("paper", 8, (7, 7, 7))])
def test_core_creates_the_layers_of_the_network(variant, depth, counts):
    with tf.Graph().as_default() as graph:
        images = tf1.placeholder(tf.float32, (None, 32, 32, 3))
        logits = se_resnet(images, CoreLayers(), depth, variant, training=True)
        types = collections.Counter(operation.type for operation in graph.get_operations())
    assert logits.shape.as_list() == [None, 10]
    assert (types["Conv2D"], types["FusedBatchNormV3"], types["MatMul"]) == counts
