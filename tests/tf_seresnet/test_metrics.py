"""`shared.metrics` counts TensorFlow's tensors as the values that they have."""

from __future__ import annotations

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from shared.metrics import Metrics  # noqa: E402


def batch(kind):
    """Logits [40, 7] of a type that NumPy may lack, as NumPy's nearest type that has their values; labels."""
    random = np.random.RandomState(3)
    logits = random.randn(40, 7).astype(np.float32)
    if kind == "bfloat16":
        logits = (logits.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    return logits if kind == "bfloat16" else logits.astype(kind), random.randint(0, 7, 40)


def state(*arguments):
    metrics = Metrics(7)
    metrics.update(*arguments)
    return metrics.to_state()


@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16"])
def test_tensors_count_as_their_values(kind):
    if not tf.executing_eagerly():
        pytest.skip("a graph's tensors have no values")
    logits, labels = batch(kind)
    assert state(tf.cast(tf.constant(logits), kind), tf.constant(labels)) == state(logits, labels)
