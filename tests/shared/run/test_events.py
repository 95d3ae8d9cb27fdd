"""What is logged of a step and of an evaluation, and what the bar shows."""

from __future__ import annotations

import io

import numpy as np
import pytest

from shared.metrics import Metrics
from shared.run.log import RunLog
from shared.run.loop import Plan, Run, Step, StepResult
from shared.system.signals import Interrupts

SPEED = {"images_per_second": 123.4, "step_ms_p50": 8.0, "step_ms_p95": 9.0, "data_wait_share": 0.125, "steps_timed": 3}


class Told(RunLog):
    """A log that remembers in which order it was asked for what."""

    def __init__(self):
        super().__init__(None, console=io.StringIO())
        self.calls = []

    def event(self, *values):
        self.calls.append(("event", *values))

    def line(self, text):
        self.calls.append(("line", text))

    def advance_bar(self, *values):
        self.calls.append(("bar", *values))


def logged(speed, **more):
    """What a run logs of a step in its third epoch."""
    log, plan = Told(), Plan(90, 10, 900, 1, None, 0)
    run = Run(plan, Step(), log, Interrupts(), None, None)
    run.progress.epoch, run.clock.window = 2, lambda: speed
    run.count(StepResult(0.5, 3, 6, 8))
    run.read()
    run.log_step(0.1, lambda run, rate, speed: "the line", **more)
    return log.calls


def test_a_step_is_an_event_then_a_line_then_the_bar():
    event, line, bar = logged(SPEED, loss_scale=128.0)
    values = {"epoch": 3, "loss": 0.5, "step_loss": 0.5, "top1": 37.5, "top5": 75.0, "learning_rate": 0.1}
    tags = {
        "train/loss": 0.5,
        "train/top1": 37.5,
        "train/top5": 75.0,
        "train/learning_rate": 0.1,
        "throughput/images_per_second": 123.4,
        "throughput/step_ms": 8.0,
        "throughput/data_wait_share": 0.125,
    }
    assert event == ("event", "step", 1, {**values, "loss_scale": 128.0, **SPEED}, tags)
    assert list(event[3]) == [*values, "loss_scale", *SPEED]
    assert line == ("line", "the line")
    assert bar == ("bar", "epoch 3/90", {"loss": "0.500", "top1": "37.5%", "images/s": "123.4", "data wait": "12%"})


def test_before_anything_is_timed_nothing_is_said_of_speed():
    (_, _, _, _, tags), _, (_, _, watched) = logged({})
    assert not [tag for tag in tags if tag.startswith("throughput")]
    assert set(watched) == {"loss", "top1"}


@pytest.mark.parametrize("epoch", [None, 4])
def test_an_evaluation(epoch):
    metrics = Metrics(6)
    metrics.update(np.array([[5.0, 4.0, 3.0, 2.0, 1.0, 0.0]] * 4), np.array([0, 1, 4, 5]))
    log = Told()
    log.evaluation(7, metrics, epoch)
    ((_, kind, step, values, tags, images),) = log.calls
    expected = {"images": 4, "loss": metrics.loss, "top1": 25.0, "top5": 75.0}
    assert (kind, step) == ("evaluation", 7)
    assert values == (expected if epoch is None else {**expected, "epoch": 4})
    assert tags == {"eval/loss": metrics.loss, "eval/top1": 25.0, "eval/top5": 75.0}
    assert set(images) == {"eval/confusion"}
