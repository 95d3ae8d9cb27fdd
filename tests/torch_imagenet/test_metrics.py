"""`shared.metrics` counts torch's tensors as the values that they have."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from shared.errors import DataError  # noqa: E402
from shared.metrics import Metrics  # noqa: E402
from tests.support.logits import batch, counted  # noqa: E402


@pytest.mark.parametrize("kind", ["float32", "float16", "float64", "bfloat16"])
def test_tensors_count_as_their_values(kind):
    logits, labels = batch(kind)
    mask = np.arange(40) % 3 > 0
    values = torch.from_numpy(logits).to(getattr(torch, kind)).requires_grad_()
    expected = counted(logits, labels, mask)
    assert counted(values * 1, torch.from_numpy(labels), torch.from_numpy(mask)) == expected
    assert counted(values.t().contiguous().t(), labels, torch.from_numpy(mask)) == expected
    assert values.requires_grad


def test_nothing_is_counted_of_tensors_that_do_not_fit():
    metrics = Metrics(3)
    with pytest.raises(ValueError, match="labels must be integers"):
        metrics.update(torch.zeros(2, 3), torch.zeros(2))
    with pytest.raises(DataError, match="label 3 is outside"):
        metrics.update(torch.zeros(2, 3), torch.tensor([0, 3]))
    assert metrics.images == 0
