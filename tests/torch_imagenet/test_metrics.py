"""`shared.metrics` counts torch's tensors as the values that they have."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from shared.errors import DataError  # noqa: E402
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


@pytest.mark.parametrize("kind", ["float32", "float16", "float64", "bfloat16"])
def test_tensors_count_as_their_values(kind):
    logits, labels = batch(kind)
    mask = np.arange(40) % 3 > 0
    values = torch.from_numpy(logits).to(getattr(torch, kind)).requires_grad_()
    expected = state(logits, labels, mask)
    assert state(values * 1, torch.from_numpy(labels), torch.from_numpy(mask)) == expected
    assert state(values.t().contiguous().t(), labels, torch.from_numpy(mask)) == expected
    assert values.requires_grad


def test_nothing_is_counted_of_tensors_that_do_not_fit():
    metrics = Metrics(3)
    with pytest.raises(ValueError, match="labels must be integers"):
        metrics.update(torch.zeros(2, 3), torch.zeros(2))
    with pytest.raises(DataError, match="label 3 is outside"):
        metrics.update(torch.zeros(2, 3), torch.tensor([0, 3]))
    assert metrics.images == 0
