"""`shared.run.clock` on a clock that the test sets."""

from __future__ import annotations

import contextlib
import json
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.run.clock import Clock


class Time:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def _step(clock, now, seconds, images=128, wait=None):
    now.seconds += seconds
    clock.step(images, wait)


def test_nothing_timed_is_an_empty_summary():
    now = Time()
    clock = Clock(2, now)
    assert clock.summary() == {}
    _step(clock, now, 5)
    _step(clock, now, 5)
    assert clock.summary() == {}
    assert clock.window() == {}


def test_the_first_steps_are_skipped_and_a_short_batch_counts_its_own_images():
    now = Time()
    clock = Clock(1, now)
    _step(clock, now, 60)
    _step(clock, now, 0.5, 128)
    _step(clock, now, 0.25, 80)
    summary = clock.summary()
    assert summary["images_per_second"] == 208 / 0.75
    assert summary["steps_timed"] == 2
    assert "data_wait_share" not in summary


def test_the_rate_is_images_over_time_and_not_a_mean_of_rates():
    now = Time()
    clock = Clock(0, now)
    _step(clock, now, 1, 100)
    _step(clock, now, 3, 100)
    assert clock.summary()["images_per_second"] == 50  # the mean of the rates would be 66.7


def test_pauses_belong_to_no_step():
    now = Time()
    clock = Clock(0, now)
    now.seconds += 0.5
    with clock.paused():
        now.seconds += 100
        with clock.paused():
            now.seconds += 20
        now.seconds += 3
    _step(clock, now, 0.5)
    with contextlib.suppress(KeyError), clock.paused():
        now.seconds += 50
        raise KeyError("evaluation failed")
    _step(clock, now, 1)
    assert clock.summary()["images_per_second"] == pytest.approx(128)
    assert clock.summary()["step_ms_p50"] == pytest.approx(1000)


def test_a_pause_during_warm_up_does_not_leak_into_the_first_timed_step():
    now = Time()
    clock = Clock(1, now)
    with clock.paused():
        now.seconds += 100
    _step(clock, now, 1)
    _step(clock, now, 1)
    assert clock.summary()["images_per_second"] == 128


def test_a_step_cannot_end_in_a_pause():
    clock = Clock(0, Time())
    with pytest.raises(RuntimeError, match="paused"), clock.paused():
        clock.step(1)


def test_the_share_of_waiting_is_over_the_steps_where_it_was_measured():
    now = Time()
    clock = Clock(1, now)
    _step(clock, now, 10, wait=10)
    _step(clock, now, 1, wait=0.25)
    _step(clock, now, 3, wait=0.75)
    _step(clock, now, 100)
    assert clock.summary()["data_wait_share"] == 0.25
    _step(clock, now, 4, wait=7)  # a measured wait cannot be longer than its step
    assert clock.summary()["data_wait_share"] == 5 / 8


def test_a_window_covers_the_steps_since_the_last_one():
    now = Time()
    clock = Clock(0, now)
    _step(clock, now, 1)
    assert clock.window()["images_per_second"] == 128
    _step(clock, now, 0.5)
    _step(clock, now, 0.5)
    window = clock.window()
    assert (window["images_per_second"], window["steps_timed"]) == (256, 2)
    assert clock.window() == {}
    assert clock.summary()["steps_timed"] == 3


@settings(deadline=None)
@given(st.lists(st.floats(1e-5, 1e3), min_size=1, max_size=80))
def test_percentiles_are_the_nearest_rank_to_a_quarter_percent(seconds):
    now = Time()
    now.seconds = 0.0
    clock = Clock(0, now)
    for step in seconds:
        now.seconds = 0.0
        clock._last = 0.0  # no rounding of a long sum between the test and the percentile
        _step(clock, now, step)
    summary = clock.summary()
    ordered = sorted(seconds)
    for percent in (50, 95):
        rank = -(-len(ordered) * percent // 100)
        assert summary[f"step_ms_p{percent}"] == pytest.approx(1000 * ordered[rank - 1], rel=0.0026)


def test_memory_does_not_grow_with_the_run():
    now = Time()
    clock = Clock(0, now)
    for seconds in np.random.RandomState(0).lognormal(-2, 0.3, 20000):
        _step(clock, now, seconds)
    assert len(json.dumps(clock.to_state())) < 10000


def test_a_resumed_clock_continues_the_sums_and_warms_up_anew():
    now = Time()
    clock = Clock(1, now)
    _step(clock, now, 60)
    _step(clock, now, 1, wait=0.5)
    state = json.loads(json.dumps(clock.to_state()))

    now.seconds += 100000
    resumed = Clock(1, now, state)
    assert resumed.summary() == clock.summary()
    assert resumed.window() == {}
    _step(resumed, now, 60)
    _step(resumed, now, 3, 128, wait=0.5)
    summary = resumed.summary()
    assert (summary["images_per_second"], summary["data_wait_share"]) == (64, 0.25)
    assert (summary["steps_timed"], summary["step_ms_p50"]) == (2, pytest.approx(1000, rel=0.003))
    assert Clock(0, now, Clock(0, now).to_state()).summary() == {}


def test_a_clock_too_coarse_to_see_a_step_gives_no_rate():
    now = Time()
    clock = Clock(0, now)
    _step(clock, now, 0)
    assert clock.summary() == {}
    _step(clock, now, 1)
    assert clock.summary()["images_per_second"] == 256


def test_the_default_clock_is_a_real_one():
    clock = Clock(0)
    time.sleep(0.02)
    clock.step(10)
    assert 0 < clock.summary()["images_per_second"] <= 500


def test_several_steps_at_once_share_their_time():
    moments = iter([0.0, 1.0, 5.0, 7.0])
    clock = Clock(warmup_steps=2, now=lambda: next(moments))
    clock.step(16, count=2)  # warm-up
    clock.step(32, 1.0, 4)
    clock.step(8)
    summary = clock.summary()
    assert summary["images_per_second"] == pytest.approx(40 / 6)
    assert summary["steps_timed"] == 5
    assert summary["step_ms_p50"] == pytest.approx(1000, rel=0.003)
    assert summary["step_ms_p95"] == pytest.approx(2000, rel=0.003)
    assert summary["data_wait_share"] == pytest.approx(1 / 4)


def test_a_warm_up_that_ends_inside_swallows_all_of_them():
    moments = iter([0.0, 1.0, 2.0])
    clock = Clock(warmup_steps=2, now=lambda: next(moments))
    clock.step(24, count=3)
    clock.step(8)
    assert clock.summary()["steps_timed"] == 1


def test_steps_that_warm_up_again_are_no_throughput():
    now = Time()
    clock = Clock(1, now)
    _step(clock, now, 60)
    _step(clock, now, 1)
    now.seconds += 30  # a program is compiled for the last, short batch
    clock.step(8, warming_up=True)
    assert (clock.summary()["images_per_second"], clock.summary()["steps_timed"]) == (128, 1)
    _step(clock, now, 1)
    assert clock.lap()["images_per_second"] == 128


def test_laps_and_windows_do_not_disturb_each_other():
    moments = iter([0.0, 1.0, 2.0, 3.0])
    clock = Clock(warmup_steps=0, now=lambda: next(moments))
    clock.step(8)
    assert clock.window()["steps_timed"] == 1
    clock.step(8)
    assert clock.lap()["steps_timed"] == 2
    clock.step(8)
    assert clock.lap()["steps_timed"] == 1
    assert clock.window()["steps_timed"] == 2
    assert clock.summary()["steps_timed"] == 3


def test_the_time_of_the_warm_up_is_for_the_log_alone():
    now = Time()
    clock = Clock(2, now)
    _step(clock, now, 60)
    assert clock.warm_up()["images_per_second"] == pytest.approx(128 / 60)
    assert clock.warm_up() == {}  # since the last call
    _step(clock, now, 2)
    assert clock.warm_up()["steps_timed"] == 1
    assert (clock.window(), clock.lap_so_far(), clock.summary()) == ({}, {}, {})
    _step(clock, now, 1)
    assert clock.warm_up() == {}
    assert clock.lap_so_far()["images_per_second"] == clock.lap()["images_per_second"] == 128
    assert clock.lap_so_far() == {}
