"""The two networks: what the original counted at depth 110, and what holds at every depth."""

from __future__ import annotations

import collections

import numpy as np
import pytest

from shared.errors import UsageError
from tf_seresnet.network import LAYERS_PER_N, STAGES, Layers, blocks_per_stage, ends_of_branches, se_resnet

tf = pytest.importorskip("tensorflow")
from tf_seresnet.layers.core import CoreLayers  # noqa: E402  (needs TensorFlow)
from tf_seresnet.step.graph import NetworkSpec  # noqa: E402
from tf_seresnet.step.variables import initialise  # noqa: E402

tf1 = tf.compat.v1

DEPTHS = [("port", 11), ("port", 20), ("paper", 8), ("paper", 14), ("paper", 20)]


class Graph:
    """A network in a graph of its own, for images [None, height, width, 3]."""

    def __init__(self, depth, variant, training=True, size=(32, 32), classes=10):
        self.graph = tf.Graph()
        with self.graph.as_default():
            self.images = tf1.placeholder(tf.float32, (None, *size, 3))
            layers = CoreLayers()
            self.logits = se_resnet(self.images, layers, depth, variant, classes, training)
            self.trainable = {v.op.name: tuple(v.shape.as_list()) for v in tf1.trainable_variables()}
            self.variables = {v.op.name: tuple(v.shape.as_list()) for v in tf1.global_variables()}
            self.updates = layers.update_averages(layers.batch_statistics())
        self.operations = collections.Counter(operation.type for operation in self.graph.get_operations())

    @property
    def parameters(self):
        return sum(int(np.prod(shape)) for shape in self.trainable.values())


# -- depth 110, against the original ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def port110():
    return Graph(110, "port")


@pytest.mark.slow
def test_the_port_has_the_originals_counts(port110):
    assert port110.parameters == 3_504_422
    assert len(port110.trainable) == 667
    assert len(port110.variables) == 1103  # the original's 1104th is tflearn's global is_training
    assert port110.operations["Conv2D"] == 112
    assert port110.operations["FusedBatchNormV3"] == 109
    assert port110.operations["MatMul"] == 225
    assert port110.operations["Sigmoid"] == 112


@pytest.mark.slow
def test_the_port_has_the_originals_parameters_by_kind(port110):
    parts = collections.Counter()
    for name, shape in port110.trainable.items():
        kind = "head" if name.startswith("dense_224") else name.split("/")[0].split("_")[0]
        parts[kind] += int(np.prod(shape))
    assert parts == {"conv2d": 3_279_104, "dense": 202_016, "BatchNorm": 20_742, "head": 2_560}


@pytest.mark.slow
def test_the_port_has_the_originals_names_and_shapes(port110):
    for name, shape in {
        "BatchNorm/beta": (3,),
        "BatchNorm/gamma": (3,),
        "conv2d/kernel": (3, 3, 3, 16),
        "conv2d/bias": (16,),
        "dense/kernel": (16, 1),
        "dense_1/kernel": (1, 16),
        "BatchNorm_108/gamma": (256,),
        "conv2d_111/kernel": (1, 1, 128, 256),
        "dense_224/kernel": (256, 10),
    }.items():
        assert port110.trainable[name] == shape, name
    for name, shape in {
        "BatchNorm/moving_mean": (3,),
        "BatchNorm/moving_variance": (3,),
        "BatchNorm/BatchNorm/moving_mean/biased": (3,),
        "BatchNorm/BatchNorm/moving_mean/local_step": (),
        "BatchNorm_6/BatchNorm_6/moving_mean/biased": (64,),
    }.items():
        assert port110.variables[name] == shape, name
        assert name not in port110.trainable
    kinds = collections.Counter(name.rsplit("/", 1)[1] for name in port110.variables)
    each = dict.fromkeys(("beta", "gamma", "moving_mean", "moving_variance", "biased", "local_step"), 109)
    assert kinds == {**each, "kernel": 112 + 225, "bias": 112}


@pytest.mark.slow
def test_the_papers_network_has_its_documented_size():
    paper = Graph(110, "paper")
    assert paper.parameters == 1_740_048  # "1.74 M"
    assert paper.operations["Conv2D"] == paper.operations["FusedBatchNormV3"] == 109
    assert paper.operations["Sigmoid"] == 54  # one gate per basic block
    assert not any(name.endswith("conv2d/bias") for name in paper.variables)


# -- every depth -----------------------------------------------------------------------------------------------


class Counting(Layers):
    """Counts the layers that a network creates, and follows the shapes (height, width, channels)."""

    def __init__(self):
        self.layers = collections.Counter()

    def conv(self, x, filters, kernel, strides=1, bias=True):
        self.layers["conv"] += 1
        return -(-x[0] // strides), -(-x[1] // strides), filters

    def batch_norm(self, x, training):
        self.layers["batch_norm"] += 1
        return x

    def dense(self, x, units):
        self.layers["dense"] += 1
        return (units,)

    def global_average_pool(self, x):
        return x[2:]

    def relu(self, x):
        return x

    def gate(self, x, excitation):
        assert excitation == x[2:]
        self.layers["gate"] += 1
        return x

    def add(self, x, y):
        assert x == y
        return x

    def shortcut(self, x, filters, strides):
        return -(-x[0] // strides), -(-x[1] // strides), filters


def layer_counts(depth, variant):
    """Numbers of convolutions, batch normalisations and dense layers, head included."""
    n = blocks_per_stage(depth, variant) * STAGES
    if variant == "port":
        return 3 * n + 1 + STAGES, 3 * n + 1, 2 * (3 * n + 1 + STAGES) + 1
    return 2 * n + 1, 2 * n + 1, 2 * n + 1


def test_the_formula_has_the_originals_counts_at_depth_110():
    assert layer_counts(110, "port") == (112, 109, 225)
    assert layer_counts(110, "paper") == (109, 109, 109)


@pytest.mark.parametrize("variant", sorted(LAYERS_PER_N))
@pytest.mark.parametrize("n", [1, 2, 3, 5, 12, 18, 100])
def test_layer_counts_at_every_depth(variant, n):
    depth = LAYERS_PER_N[variant] * n + 2
    counting = Counting()
    assert se_resnet((33, 47, 3), counting, depth, variant, num_classes=7) == (7,)
    count = counting.layers
    assert (count["conv"], count["batch_norm"], count["dense"]) == layer_counts(depth, variant)
    assert count["dense"] == 2 * count["gate"] + 1
    # Depth counts the layers with weights on the longest path, without gates and shortcuts.
    assert blocks_per_stage(depth, variant) == n
    assert count["conv"] - (3 if variant == "port" else 0) + 1 == depth


@pytest.mark.parametrize(("variant", "depth"), DEPTHS)
def test_layer_counts_of_the_graph(variant, depth):
    built = Graph(depth, variant)
    convolutions, norms, dense = layer_counts(depth, variant)
    assert built.operations["Conv2D"] == convolutions
    assert built.operations["FusedBatchNormV3"] == norms
    assert built.operations["MatMul"] == dense
    assert len(built.updates) == 4 * norms


@pytest.mark.parametrize(("variant", "depth"), DEPTHS)
def test_inference_has_the_variables_of_training_and_updates_nothing(variant, depth):
    training, inference = Graph(depth, variant), Graph(depth, variant, training=False)
    assert list(inference.variables.items()) == list(training.variables.items())
    assert inference.updates == []
    assigned = sum(count for kind, count in inference.operations.items() if kind.startswith("Assign"))
    assert assigned == len(inference.variables)  # their initial values


@pytest.mark.parametrize(("variant", "depth"), [("port", 11), ("paper", 8)])
@pytest.mark.parametrize(("size", "classes"), [((32, 32), 10), ((28, 28), 3), ((1, 1), 10), ((33, 47), 3)])
def test_logits_of_any_image_size(variant, depth, size, classes):
    built = Graph(depth, variant, training=False, size=size, classes=classes)
    assert built.logits.shape.as_list() == [None, classes]
    assert built.logits.dtype == tf.float32
    with built.graph.as_default(), tf1.Session() as session:
        session.run(tf1.global_variables_initializer())
        for images in (1, 3):
            logits = session.run(built.logits, {built.images: np.ones((images, *size, 3), np.float32)})
            assert logits.shape == (images, classes)
            assert np.isfinite(logits).all()


def test_the_defaults_are_the_originals():
    layers = Counting()
    assert se_resnet((32, 32, 3), layers) == (10,)
    assert layers.layers["conv"] == 112


def test_the_stages_have_the_documented_widths():
    seen = []

    class Widths(Counting):
        def conv(self, x, filters, kernel, strides=1, bias=True):
            seen.append((filters, kernel, strides, bias))
            return super().conv(x, filters, kernel, strides, bias)

    se_resnet((32, 32, 3), Widths(), 11, "port")
    stage = [
        [(w, 1, s, True), (w, 3, 1, True), (out, 1, 1, True), (out, 1, s, True)]
        for w, out, s in ((16, 64, 1), (64, 128, 2), (128, 256, 2))
    ]
    assert seen == [(16, 3, 1, True), *stage[0], *stage[1], *stage[2]]
    seen.clear()
    se_resnet((32, 32, 3), Widths(), 8, "paper")
    basic = [[(w, 3, s, False), (w, 3, 1, False)] for w, s in ((16, 1), (32, 2), (64, 2))]
    assert seen == [(16, 3, 1, False), *basic[0], *basic[1], *basic[2]]


# -- depths and variants that do not exist ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("depth", "variant", "nearest"),
    [
        (111, "port", "use 110 or 119"),
        (109, "port", "use 101 or 110"),
        (8, "port", "use 11 or 20"),
        (0, "port", "use 11 or 20"),
        (2, "port", "use 11 or 20"),
        (-7, "port", "use 11 or 20"),
        (12, "port", "use 11 or 20"),
        (111, "paper", "use 110 or 116"),
        (11, "paper", "use 8 or 14"),
        (2, "paper", "use 8 or 14"),
    ],
)
def test_a_depth_that_does_not_exist_names_the_nearest(depth, variant, nearest):
    with pytest.raises(UsageError) as caught:
        se_resnet((32, 32, 3), Counting(), depth, variant)
    text = str(caught.value)
    assert text.startswith(f"depth {depth} does not exist in variant {variant}")
    assert text.endswith(nearest)
    assert "\n" not in text
    for word in nearest.replace("use ", "").split(" or "):
        assert blocks_per_stage(int(word), variant) >= 1


def test_a_variant_that_does_not_exist_names_those_that_do():
    with pytest.raises(UsageError, match="unknown variant 'papre'; choose one of port, paper"):
        se_resnet((32, 32, 3), Counting(), 110, "papre")


def test_a_graph_is_built_for_training_or_for_inference():
    with tf.Graph().as_default(), pytest.raises(ValueError, match="training or for inference"):
        se_resnet(tf1.placeholder(tf.float32, (None, 32, 32, 3)), CoreLayers(), 11)


@pytest.mark.parametrize(("variant", "depth"), [("port", 11), ("paper", 8)])
def test_a_branch_without_its_end_is_a_dropped_branch(variant, depth):
    """`ends_of_branches` names the end of every branch, and a factor of 0 drops that branch and no other."""
    spec, ends = NetworkSpec(depth, variant, "core", 10), ends_of_branches(depth, variant)
    images = np.random.RandomState(0).standard_normal((2, 32, 32, 3)).astype(np.float32)
    factors = np.vstack([np.ones(3), np.ones(3) - np.eye(3), np.ones(3) * 0]).astype(np.float32)
    with tf.Graph().as_default(), tf1.Session() as session:
        given = tf1.placeholder(tf.float32, (2, 3))
        whole, _ = spec.build(images, training=False)
        scaled, _ = spec.build(images, training=False, reuse=True, branch_factors=given)
        for row, zeros in zip(factors, ([], *([end] for end in ends), ends)):
            initialise(session, 0, zeros)
            expected = session.run(whole)
            initialise(session, 0)
            np.testing.assert_allclose(session.run(scaled, {given: [row, row]}), expected, rtol=0, atol=1e-5)
