"""`shared.metrics` counts TensorFlow's tensors as the values that they have."""

from __future__ import annotations

import pytest

tf = pytest.importorskip("tensorflow")

from tests.support.logits import batch, counted  # noqa: E402


@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16"])
def test_tensors_count_as_their_values(kind):
    if not tf.executing_eagerly():
        pytest.skip("a graph's tensors have no values")
    logits, labels = batch(kind)
    assert counted(tf.cast(tf.constant(logits), kind), tf.constant(labels)) == counted(logits, labels)
