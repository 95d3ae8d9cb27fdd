"""Class activation maps against the gradients that they stand for, and TensorFlow's own enlargement."""

from __future__ import annotations

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from tf_seresnet.layers.activation_map import activation_maps  # noqa: E402

tf1 = tf.compat.v1
RANDOM = np.random.RandomState(0)
FEATURES = RANDOM.standard_normal((5, 8, 8, 6)).astype(np.float32)
WEIGHTS = RANDOM.standard_normal((6, 4)).astype(np.float32)
OUTPUTS = [0, 3, 3, 1, 2]


def test_they_are_grad_cam():
    """Selvaraju et al., equations 1 and 2, by TensorFlow's gradients of the logits."""
    with tf.Graph().as_default(), tf1.Session() as session:
        features = tf.constant(FEATURES)
        logits = tf.linalg.matmul(tf.reduce_mean(features, axis=[1, 2]), tf.constant(WEIGHTS))
        (gradients,) = tf1.gradients(tf.reduce_sum(logits * tf.one_hot(OUTPUTS, 4)), [features])
        weights = tf.reduce_mean(gradients, axis=[1, 2], keepdims=True)
        maps = tf.nn.relu(tf.reduce_sum(weights * features, axis=3, keepdims=True))
        large = tf1.image.resize_bilinear(maps, (32, 32), half_pixel_centers=True)[..., 0]
        expected = session.run(large / tf.reduce_max(large, axis=[1, 2], keepdims=True))
    found = activation_maps(FEATURES, WEIGHTS, OUTPUTS, 32)
    assert (found.shape, found.dtype) == ((5, 32, 32), np.float32)
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_what_speaks_against_a_class_is_not_shown():
    assert not activation_maps(np.abs(FEATURES), -np.abs(WEIGHTS), OUTPUTS, 32).any()


def test_the_place_is_that_of_the_feature():
    features = np.zeros((1, 8, 8, 1), np.float32)
    features[0, 2, 5] = 3
    (found,) = activation_maps(features, np.ones((1, 2), np.float32), [1], 32)
    assert found[9:11, 21:23].min() > 0.7
    assert found.max() == 1
    assert not found[:4].any()
    assert not found[:, :16].any()
