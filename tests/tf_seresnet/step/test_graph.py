"""The network's forward pass for batches of a fixed size."""

from __future__ import annotations

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from tf_seresnet.step.graph import Inference  # noqa: E402
from tf_seresnet.step.spec import NetworkSpec, Normalisation  # noqa: E402

tf1 = tf.compat.v1
NETWORK, NORMALISE = NetworkSpec(8, "paper", "core", 10), Normalisation((120.0,) * 3, (60.0,) * 3)


def test_an_image_alone_is_computed_as_one_of_two():
    """oneDNN has another convolution for a batch of one, which is slower and rounds as its threads happen to run."""
    images = np.random.RandomState(0).randint(0, 256, (2, 32, 32, 3)).astype(np.uint8)
    with tf.Graph().as_default(), tf1.Session() as session:
        alone = Inference(NETWORK, NORMALISE, 1, reuse=False)
        both = Inference(NETWORK, NORMALISE, 2, reuse=True)
        session.run(tf1.global_variables_initializer())
        assert alone.images_per_run == 1
        np.testing.assert_array_equal(alone.run(session, images[:1]), both.run(session, images)[:1])
        for found, wanted in zip(alone.features(session, images[1:]), both.features(session, images[::-1])):
            np.testing.assert_array_equal(found[:1], wanted[:1])
