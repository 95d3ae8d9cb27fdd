"""Numbers that left the range: which tensor or layer is named, and what is said of an evaluation without a result."""

from __future__ import annotations

import numpy as np
import pytest

from shared.errors import UsageError
from shared.metrics import Metrics
from shared.run.finite import check_evaluation, first_not_finite, with_ranges

NAN, INF = float("nan"), float("inf")


def test_the_first_of_the_spoilt_tensors_is_named_and_all_are_counted():
    good, bad = np.ones(3), np.array([1, NAN, 2])
    assert first_not_finite([("a", good), ("b", bad), ("c", np.array([-INF]))]) == " (b first, 2 tensors in all)"
    assert first_not_finite([("a", good), ("steps", np.arange(3))]) == ""


def test_a_layer_is_shown_with_the_ranges_of_its_tensors():
    tensors = [("running_mean", np.array([-3e38, 2])), ("running_var", np.array([0.001, 1]))]
    assert with_ranges("bn", tensors) == "bn (running_mean -3e+38 to 2, running_var 0.001 to 1)"
    assert with_ranges("relu", []) == "relu"


def _metrics(*logits):
    metrics = Metrics(2)
    if logits:
        metrics.update(np.array(logits, np.float32), np.zeros(len(logits), np.int64))
    return metrics


def test_an_evaluation_of_numbers_is_a_result():
    check_evaluation(_metrics([1, 0], [3e38, -3e38]), "val", None, training=True)


@pytest.mark.parametrize(
    ("training", "advice"),
    [
        (True, "lower --learning-rate .* start from the last good checkpoint with --checkpoint"),
        (False, "these weights have diverged, evaluate others with --checkpoint, or use --precision O0"),
    ],
)
def test_one_answer_that_is_no_number_is_none(training, advice):
    words = f"^the logits of 1 of 2 images are not finite, from bn on; {advice}$"
    with pytest.raises(UsageError, match=words):
        check_evaluation(_metrics([1, 0], [NAN, 0]), "val", "bn", training)


@pytest.mark.parametrize("training", [True, False])
def test_neither_is_one_of_no_images(training):
    with pytest.raises(UsageError, match="^no image of val could be read; look at check-data$"):
        check_evaluation(_metrics(), "val", None, training)
