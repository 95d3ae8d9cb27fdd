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
    """For a batch of one oneDNN has another convolution, but not where a frozen graph was computed before."""
    images = np.random.RandomState(0).randint(0, 256, (2, 32, 32, 3)).astype(np.uint8)
    with tf.Graph().as_default(), tf1.Session() as session:
        alone, both = Inference(NETWORK, NORMALISE, 1, reuse=False), Inference(NETWORK, NORMALISE, 2, reuse=True)
        random = np.random.RandomState(1)
        for variable in tf1.global_variables():  # which begin as zeros until values are loaded
            variable.load(random.uniform(0.1, 0.2, variable.shape.as_list()), session)
        assert alone.images_per_run == 1
        before = alone.run(session, images[:1])
        assert before.all()
        np.testing.assert_array_equal(before, both.run(session, images)[:1])
        for found, wanted in zip(alone.features(session, images[1:]), both.features(session, images[::-1])):
            np.testing.assert_array_equal(found[:1], wanted[:1])
