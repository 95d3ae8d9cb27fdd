"""The training loss against its definitions, and counting against numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from torch_imagenet.step.losses import correct_counts, mean_loss, uniform_epsilon  # noqa: E402


def _by_definition(logits: np.ndarray, labels: np.ndarray, epsilon: float, form: str) -> float:
    """The originals' two forms, written out: targets of 1 - eps on the label, the rest as the form says."""
    classes = logits.shape[1]
    others = epsilon / (classes - 1) if form == "others" else epsilon / classes
    targets = np.full(logits.shape, others)
    targets[np.arange(len(labels)), labels] = 1 - epsilon if form == "others" else 1 - epsilon + epsilon / classes
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return float(-(targets * log_probabilities).sum(axis=1).mean())


@pytest.mark.parametrize("form", ["uniform", "others"])
@given(classes=st.integers(2, 40), images=st.integers(1, 9), epsilon=st.floats(0, 0.99), seed=st.integers(0, 999))
def test_both_documented_forms_of_label_smoothing(form, classes, images, epsilon, seed):
    random = np.random.RandomState(seed)
    logits, labels = random.normal(0, 3, (images, classes)), random.randint(0, classes, images)
    tensors = torch.from_numpy(logits), torch.from_numpy(labels).long()
    got = mean_loss(*tensors, uniform_epsilon(epsilon, form, classes), 0.0)
    assert float(got) == pytest.approx(_by_definition(logits, labels, epsilon, form), rel=1e-10)


def test_the_two_forms_differ_as_the_original_says():
    assert uniform_epsilon(0.1, "uniform", 1000) == 0.1
    assert uniform_epsilon(0.1, "others", 1000) == pytest.approx(0.1 * 1000 / 999)


def test_of_few_classes_most_of_a_label_may_be_on_the_others():
    """Here torch's own argument would be 1.8, of which it takes no more than 1."""
    logits, label, targets = torch.tensor([[0.3, -1.1]]), torch.tensor([0]), torch.tensor([[0.1, 0.9]])
    expected = torch.nn.functional.cross_entropy(logits, targets)
    torch.testing.assert_close(mean_loss(logits, label, uniform_epsilon(0.9, "others", 2), 0.0), expected)


def test_the_auxiliary_head_weighs_what_it_is_told():
    logits, auxiliary, labels = torch.randn(4, 7), torch.randn(4, 7), torch.tensor([0, 3, 6, 1])
    first, second = (float(mean_loss(part, labels, 0.1, 0.4)) for part in (logits, auxiliary))
    assert float(mean_loss((logits, auxiliary), labels, 0.1, 0.4)) == pytest.approx(first + 0.4 * second)


def test_half_logits_are_averaged_in_float32():
    logits = torch.zeros(4096, 1000, dtype=torch.float16)
    loss = mean_loss(logits, torch.zeros(4096, dtype=torch.long), 0.0, 0.0)
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(math.log(1000), rel=1e-6)


def test_mixed_targets_are_probabilities():
    logits = torch.randn(3, 5)
    labels = torch.tensor([1, 2, 4])
    certain = torch.nn.functional.one_hot(labels, 5).float()
    one_label, by_index = (float(mean_loss(logits, targets, 0.0, 0.0)) for targets in (certain, labels))
    assert one_label == pytest.approx(by_index)
    mixed = 0.7 * torch.nn.functional.one_hot(labels, 5) + 0.3 * torch.nn.functional.one_hot(labels.roll(1), 5)
    assert torch.equal(correct_counts(logits, mixed), correct_counts(logits, labels))


@given(classes=st.integers(5, 30), images=st.integers(1, 20), seed=st.integers(0, 999), ties=st.booleans())
def test_counting_agrees_with_the_shared_metrics(classes, images, seed, ties):
    from shared.metrics import Metrics

    random = np.random.RandomState(seed)
    logits = random.normal(0, 1, (images, classes)).astype(np.float32)
    if ties:
        logits = np.round(logits)
    labels = random.randint(0, classes, images)
    metrics = Metrics(classes)
    metrics.update(logits, labels)
    first, five = correct_counts(torch.from_numpy(logits), torch.from_numpy(labels).long()).tolist()
    assert 100 * first / images == pytest.approx(metrics.top1)
    assert 100 * five / images == pytest.approx(metrics.top5)
