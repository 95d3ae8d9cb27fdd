"""The loss of mixed and smoothed labels against torch's, and which class counts as an image's."""

from __future__ import annotations

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")
from tf_seresnet.step import losses  # noqa: E402  (needs TensorFlow)
from tf_seresnet.step.input_pipeline import Batch  # noqa: E402

tf1 = tf.compat.v1
LOGITS = np.random.RandomState(0).standard_normal((6, 10)).astype(np.float32)
LABELS, OTHERS = np.array([3, 0, 9, 9, 5, 1], np.int32), np.array([1, 3, 0, 9, 9, 5], np.int32)
SHARE = np.array([1.0, 0.25, 0.5, 0.3, 0.75, 0.0], np.float32)


def evaluated(function, *more, mixed=True):
    with tf.Graph().as_default(), tf1.Session() as session:
        batch = Batch(None, tf.constant(LABELS), *(map(tf.constant, (OTHERS, SHARE)) if mixed else ()))
        return session.run(function(tf.constant(LOGITS), batch, *more))


def targets(mixed):
    own, other = np.eye(10, dtype=np.float32)[LABELS], np.eye(10, dtype=np.float32)[OTHERS]
    return own * SHARE[:, None] + other * (1 - SHARE[:, None]) if mixed else own


@pytest.mark.slow  # imports torch beside TensorFlow
@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_it_is_torchs(mixed, smoothing):
    torch = pytest.importorskip("torch")
    expected = torch.nn.functional.cross_entropy(
        torch.tensor(LOGITS), torch.tensor(targets(mixed)), label_smoothing=smoothing
    )
    assert evaluated(losses.mean_loss, smoothing, mixed=mixed) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("mixed", [False, True])
def test_the_class_with_the_larger_share_counts(mixed):
    labels = targets(mixed).argmax(1)
    ranks = (-LOGITS).argsort(1, kind="stable")
    expected = [(ranks[:, 0] == labels).sum(), (ranks[:, :5] == labels[:, None]).sum()]
    assert evaluated(losses.hits, mixed=mixed) == expected
