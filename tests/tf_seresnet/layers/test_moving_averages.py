"""The moving averages of all layers as one vector: TensorFlow's own, layer by layer, is the reference, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")
from tensorflow.python.training import moving_averages  # noqa: E402

from tf_seresnet.layers.core import CoreLayers  # noqa: E402
from tf_seresnet.network import BATCH_NORM_DECAY  # noqa: E402
from tf_seresnet.step import variables  # noqa: E402

tf1 = tf.compat.v1
CHANNELS = (3, 17, 1)
NAMES = ("moving_mean", "moving_variance", "biased", "local_step")


def test_they_are_tensorflows_in_every_layer():
    random = np.random.RandomState(0)
    with tf.Graph().as_default() as graph, tf1.Session() as session:
        layers, theirs = CoreLayers(), []
        for channels in CHANNELS:
            layers.batch_norm(tf1.placeholder(tf.float32, (None, 2, 2, channels)), training=True)
        own = {v.op.name: v for v in variables.model_variables() if v.op.name.endswith(NAMES)}
        fed = [tf1.placeholder(tf.float32, (channels,)) for channels in CHANNELS for _ in range(2)]
        updates = layers.update_averages(fed)
        for index, (mean, variance) in enumerate(zip(fed[::2], fed[1::2])):
            pair = [tf1.get_variable(f"{index}/{kind}", mean.shape, trainable=False) for kind in ("mean", "variance")]
            for variable, value, debias in zip(pair, (mean, variance), (True, False)):
                assign = moving_averages.assign_moving_average
                theirs.append((variable, assign(variable, value, BATCH_NORM_DECAY, zero_debias=debias)))
        variables.initialise(session, seed=0)
        session.run([variable.initializer for variable, _ in theirs[::2]])
        variables.load_values(session, {v.op.name: np.ones(v.shape, np.float32) for v, _ in theirs[1::2]})
        assert len(own) == 4 * len(CHANNELS)
        for step in range(1, 18):  # TensorFlow's power of a vector and of a number differ at 15
            values = {one: random.uniform(0.1, 9, one.shape.as_list()).astype(np.float32) for one in fed}
            session.run([updates, [update for _, update in theirs]], values)
            found, wanted = session.run([own, [variable for variable, _ in theirs]])
            for index in range(len(CHANNELS)):
                scope = f"BatchNorm_{index}" if index else "BatchNorm"
                np.testing.assert_array_equal(found[f"{scope}/moving_mean"], wanted[2 * index])
                np.testing.assert_array_equal(found[f"{scope}/moving_variance"], wanted[2 * index + 1])
                assert found[f"{scope}/{scope}/moving_mean/local_step"] == step
        kinds = [one.type for one in graph.get_operations()]
    assert kinds.count("ConcatV2") >= 4  # of all layers, and no more of them where there are more layers
