"""How far a run is: sums weighted by images, the best evaluation, and a JSON form that gives the same bits back."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import UsageError
from shared.run.progress import Progress

STEPS = st.lists(
    st.tuples(
        st.floats(0, 1e6),
        st.integers(1, 128).flatmap(lambda images: st.tuples(st.integers(0, images), st.just(images))),
    ),
    min_size=1,
    max_size=10,
)


def counted(steps):
    progress = Progress()
    progress.begin_epoch()
    for loss, (correct, images) in steps:
        progress.count(loss, correct, images)
    return progress


def test_a_short_batch_weighs_what_it_holds():
    progress = counted([(2.0, (64, 128)), (8.0, (16, 64))])
    assert progress.loss == 4.0
    assert progress.top1 == pytest.approx(100 * 80 / 192, rel=1e-15)
    assert (progress.step, progress.step_in_epoch, progress.images, progress.epoch_images) == (2, 2, 192, 192)


@given(STEPS)
def test_means_are_over_images(steps):
    progress = counted(steps)
    images = sum(images for _, (_, images) in steps)
    assert progress.loss == pytest.approx(sum(loss * n for loss, (_, n) in steps) / images, rel=1e-12)
    assert progress.top1 == pytest.approx(100 * sum(correct for _, (correct, _) in steps) / images, rel=1e-12)
    assert 0 <= progress.top1 <= 100


def test_the_five_likeliest_are_counted_where_they_are_given():
    progress = Progress()
    progress.begin_epoch()
    progress.count(1.0, 1, 4, 3)
    progress.count(1.0, 0, 4, 2)
    assert (progress.top1, progress.top5) == (12.5, 62.5)
    progress.begin_epoch()
    progress.count(1.0, 1, 4)
    assert (progress.top1, progress.top5) == (25.0, 0.0)


def test_a_state_of_before_the_five_likeliest_were_counted_can_be_read():
    stored = {
        "epoch": 1,
        "step_in_epoch": 2,
        "step": 5,
        "images": 80,
        "epoch_images": 32,
        "epoch_correct": 8,
        "epoch_loss": 64.0,
        "best_epoch": 1,
        "best_top1": 12.5,
    }
    progress = Progress(**stored)
    assert (progress.loss, progress.top1, progress.step) == (2.0, 25.0, 5)
    assert {name: value for name, value in vars(progress).items() if name in stored} == stored


@given(STEPS, st.floats(-1, 100))
def test_the_json_form_gives_the_same_bits_back(steps, top1):
    progress = counted(steps)
    progress.is_best(top1)
    back = Progress(**json.loads(json.dumps(vars(progress))))
    assert back == progress
    for run in (progress, back):
        run.count(0.1, 1, 3)
    assert back.loss == progress.loss


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_stops_the_run_in_one_line(loss):
    progress = counted([(1.0, (1, 2))])
    with pytest.raises(UsageError) as caught:
        progress.count(loss, 0, 2)
    text = str(caught.value)
    assert f"the loss is {loss} at step 2; lower --learning-rate" in text
    assert "\n" not in text
    assert progress.loss == 1.0  # the sums are not spoiled


def test_an_epoch_ends_and_the_next_begins():
    progress = counted([(2.0, (1, 2)), (4.0, (2, 2))])
    progress.end_epoch()
    assert (progress.epoch, progress.step_in_epoch, progress.step, progress.images) == (1, 0, 2, 4)
    assert (progress.loss, progress.top1) == (3.0, 75.0)  # still those of the epoch that ended
    progress.begin_epoch()
    progress.count(5.0, 0, 4)
    assert (progress.loss, progress.top1) == (5.0, 0.0)
    assert (progress.epoch, progress.step_in_epoch, progress.step, progress.images) == (1, 1, 3, 8)


def test_only_a_strictly_better_evaluation_is_the_best():
    progress = Progress()
    seen = []
    for top1 in (0.0, 10.0, 10.0, 9.0, 10.5):
        progress.count(1.0, 1, 2)
        seen.append(progress.is_best(top1))
        progress.end_epoch()
    assert seen == [True, True, False, False, True]
    assert (progress.best_epoch, progress.best_top1) == (5, 10.5)  # epochs counted from 1, as people do


def test_an_evaluation_of_a_finished_run_is_of_its_last_epoch():
    progress = Progress()
    for _ in range(3):
        progress.count(1.0, 1, 2)
        number = progress.evaluated_epoch
        progress.end_epoch()
    assert number == 3
    assert progress.evaluated_epoch == 3
