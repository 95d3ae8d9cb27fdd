"""Loss scaling of one flat vector: TensorFlow's own optimizer is the reference, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from tf_seresnet.devices.flat_loss_scale import FlatLossScaleOptimizer  # noqa: E402

tf1 = tf.compat.v1
SHAPES = [(3, 2), (5,), (), (2, 1, 4)]


def trained(optimizer_class, scale):
    """The variables and the count of updates after each of four steps, the second of which overflows; the operators."""
    with tf1.Graph().as_default() as graph:
        random = np.random.RandomState(0)
        variables = [
            tf1.get_variable(f"v{n}", initializer=np.asarray(random.randn(*s), "f")) for n, s in enumerate(SHAPES)
        ]
        factor, step = tf1.placeholder(tf.float32, ()), tf1.train.get_or_create_global_step()
        wrapped = optimizer_class(tf1.train.MomentumOptimizer(0.1, 0.9), scale)
        loss = tf.add_n([tf.reduce_sum(variable**2) * (index + 1) for index, variable in enumerate(variables)]) * factor
        update = wrapped.apply_gradients(wrapped.compute_gradients(loss, variables), step)
        found = []
        with tf1.Session() as session:
            session.run(tf1.global_variables_initializer())
            for value in (1.0, 3e38, 0.5, 0.25):
                session.run(update, {factor: value})
                found += session.run([*variables, step])
        return found, [operation.type for operation in graph.get_operations()]


@pytest.mark.parametrize("scale", ["dynamic", 128.0])
def test_it_computes_what_tensorflows_does(scale):
    own, operations = trained(FlatLossScaleOptimizer, scale)
    reference, others = trained(tf1.train.experimental.MixedPrecisionLossScaleOptimizer, scale)
    for one, other in zip(own, reference):
        np.testing.assert_array_equal(one, other)
    assert own[-1] == (3 if scale == "dynamic" else 4)
    fewer = {kind: others.count(kind) - operations.count(kind) for kind in ("IsFinite", "Mul")}
    assert fewer == {"IsFinite": len(SHAPES) - 1 if scale == "dynamic" else 0, "Mul": len(SHAPES) - 1}
