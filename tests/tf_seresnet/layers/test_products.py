"""`layers.products`: the function, the variables and the gradients of `layers.core`, other operators."""

from __future__ import annotations

import collections

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")
from tf_seresnet.layers.core import CoreLayers  # noqa: E402  (needs TensorFlow)
from tf_seresnet.layers.products import ProductLayers  # noqa: E402
from tf_seresnet.step import variables  # noqa: E402
from tf_seresnet.step.graph import NetworkSpec  # noqa: E402

tf1 = tf.compat.v1
BATCH = 3
TOLERANCE = 2e-5  # of the largest value of an array: sums in another order


def gated(layers, side, channels, filters, kernel, strides):
    """(values by name, operations) of a gated convolution and the gradients of a random loss of it."""
    random = np.random.RandomState(0)
    image = random.standard_normal((BATCH, side, side, channels)).astype(np.float32)
    with tf.Graph().as_default() as graph, tf1.Session() as session:
        x = tf1.placeholder(tf.float32, (None, side, side, channels))
        y = layers.gated_conv(x, filters, kernel, strides)
        weights = tf1.trainable_variables()
        fetches = {"y": y, "x": tf1.gradients(y * np.cos(np.arange(filters, dtype=np.float32)) + y * y, x)[0]}
        loss = tf.reduce_sum(y * np.cos(np.arange(filters, dtype=np.float32)) + y * y)
        fetches.update((w.op.name, g) for w, g in zip(weights, tf1.gradients(loss, weights)))
        values = {w.op.name: random.normal(0, 0.3, w.shape.as_list()).astype(np.float32) for w in weights}
        variables.load_values(session, values)
        operations = collections.Counter(one.type for one in graph.get_operations() if one.name.find("gradients"))
        return session.run(fetches, {x: image}), operations


@pytest.mark.parametrize(
    ("shape", "convolutions", "batched"),
    [
        ((32, 16, 64, 1, 1), 0, 1),
        ((16, 16, 16, 1, 1), 0, 1),
        ((8, 128, 256, 1, 1), 0, 0),  # an image's kernel is larger than its map
        ((32, 64, 16, 1, 1), 0, 0),
        ((16, 16, 32, 1, 2), 1, 0),
        ((16, 16, 16, 3, 1), 1, 0),
    ],
)
def test_a_gated_convolution_and_its_gradients_are_those_of_core(shape, convolutions, batched):
    expected, _ = gated(CoreLayers(), *shape)
    found, operations = gated(ProductLayers(), *shape)
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name].shape == value.shape
        assert np.abs(found[name] - value).max() <= TOLERANCE * np.abs(value).max(), name
    assert (operations["Conv2D"], operations["BatchMatMulV2"]) == (convolutions, batched)


@pytest.mark.parametrize(("variant", "depth"), [("port", 11), ("paper", 8)])
def test_the_variables_of_the_network_are_those_of_core(variant, depth):
    def described(products):
        with tf.Graph().as_default():
            images = tf1.placeholder(tf.float32, (None, 32, 32, 3))
            _, layers = NetworkSpec(depth, variant, "core", 10).build(images, training=True, products=products)
            assert isinstance(layers, ProductLayers) is products
            return [(v.op.name, v.shape.as_list(), v.trainable) for v in tf1.global_variables()]

    assert described(True) == described(False)
