"""Numbers that left the range: which tensor or layer is named, an evaluation without a result, a failed loss scale."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import UsageError
from shared.metrics import Metrics
from shared.run.divergence import SkippedSteps, check_evaluation, first_not_finite, overflowing, with_ranges

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


# -- loss scale ------------------------------------------------------------------------------------------------


def watched(static, window, outcomes, every, ended=()):
    """The step at which the watch speaks up, of steps that are left out (True) or not, read every so many; None."""
    watch, skipped = SkippedSteps(static, window), 0
    for step, left_out in enumerate(outcomes, 1):
        skipped += left_out
        if step % every == 0 or step in ended:
            try:
                watch.check(step, step, skipped, step in ended)
            except UsageError:
                return step
    return None


@given(st.integers(1, 30), st.integers(0, 100))
def test_a_dynamic_scale_may_come_down_from_its_start(every, good):
    assert watched(None, 50, [True] * 16 + [False] * (34 + good), every) is None


@given(st.lists(st.booleans(), min_size=1, max_size=300), st.integers(1, 30))
def test_it_speaks_up_where_most_of_a_window_was_left_out_and_nowhere_else(outcomes, every):
    begin, expected = 0, None
    for step in range(every, len(outcomes) + 1, every):
        if step - begin >= 50:
            if sum(outcomes[begin:step]) * 2 > step - begin:
                expected = step
                break
            begin = step
    assert watched(None, 50, outcomes, every) == expected


@pytest.mark.parametrize(("static", "noticed"), [(1024.0, 3), (None, None)])
def test_a_static_scale_under_which_an_epoch_takes_no_step_has_failed(static, noticed):
    assert watched(static, 50, [True] * 3, 10, ended=(3,)) == noticed


def test_a_static_scale_with_one_step_taken_in_each_epoch_goes_on():
    assert watched(1024.0, 50, [True, True, False] * 4, 1, ended=(3, 6, 9, 12)) is None


def test_what_was_left_out_before_it_began_does_not_count():
    watch = SkippedSteps(None, 10)
    watch.start(1000)
    watch.check(2010, 10, 1005, False)
    with pytest.raises(UsageError, match="6 of the last 10 steps, up to step 2020, were skipped"):
        watch.check(2020, 20, 1011, False)


def test_the_error_says_what_to_do_about_either_kind():
    assert "the loss scale 1024; lower --loss-scale" in str(overflowing("x", 1024.0))
    for static in (1.0, None):
        assert "whatever the loss scale; lower --learning-rate" in str(overflowing("x", static))
