"""A run of a step that only counts: stopped anywhere and resumed, saved, evaluated, and in several processes."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
import json

import numpy as np
import pytest

from shared.errors import DataError, RunEnded, UsageError
from shared.metrics import Metrics
from shared.run.history import History
from shared.run.log import RunLog
from shared.run.loop import Run, Step, StepResult, StopAgreement
from shared.run.plan import Plan
from shared.system.signals import Interrupts, Stopped

PLAN = Plan(epochs=3, steps_per_epoch=4, total_steps=12, print_freq=2, save_steps=3, warm_up_steps=1)


class Counting(Step):
    """Its weight is the sum of the batches, which are numbers; a batch of None has no images."""

    def __init__(self, asynchronous=False, steps_per_call=None):
        self.asynchronous, self.steps_per_call, self.weight, self.reads = asynchronous, steps_per_call, 0.0, []

    def queue(self, batch, rate):
        return self.run(batch, rate) if self.steps_per_call is None else (batch, rate)

    def run(self, batch, rate):
        if batch is None:
            return StepResult(0.0, 0, 0, 0)
        self.weight += batch * rate
        return StepResult(1.0 / batch, batch % 3, batch % 5, 8)

    def read(self, pending):
        self.reads.append(len(pending))
        return pending if self.steps_per_call is None else [self.run(*one) for one in pending]

    def check_numbers(self, step, is_last):
        if self.weight > 1e6:
            raise UsageError("a weight is not finite after step {}; lower it".format(step))


class Trial:
    """A training on this folder with a counting step, from its newest checkpoint on."""

    def __init__(self, folder, plan=PLAN, asynchronous=False, ranks=None, log=None, steps_per_call=None, constant=None):
        saved = sorted((folder / "saved").glob("*.json")) if (folder / "saved").exists() else []
        state = json.loads(saved[-1].read_text()) if saved else None
        self.folder, self.interrupts, self.evaluated = folder, Interrupts(), []
        self.step = Counting(asynchronous, steps_per_call)
        if state:
            self.step.weight = state["weight"]
        self.log = log or RunLog(None, silent=True)
        self.constant = constant or {"arithmetic": {}}
        history = History(commit="c0ffee").continued(state, self.constant)
        self.run = Run(plan, self.step, self.log, self.interrupts, folder, self.write, state, ranks, history=history)

    def write(self, state, best):
        (self.folder / "saved").mkdir(exist_ok=True)
        state = {**self.constant, **state, "weight": self.step.weight, "best": best}
        (self.folder / "saved" / "{:08d}.json".format(state["progress"]["step"])).write_text(json.dumps(state))

    def evaluate(self):
        metrics = Metrics(2)
        right = int(self.step.weight) % 2
        metrics.update(np.array([[1.0, 0.0]] * 4), np.array([0] * (2 + right) + [1] * (2 - right)))
        self.evaluated.append(self.run.progress.step)
        return metrics

    def batches(self, epoch):
        first = self.run.progress.step_in_epoch
        return iter([10 * epoch + number + 1 for number in range(first, self.run.plan.steps_per_epoch)])

    def train(self, stop_in=None, batches=None, stop_in_evaluation=False):
        """The loop of a trainer; a signal comes in the step of this number, counted over the run."""
        run = self.run
        with run:
            for epoch in run.epochs():
                rate = 0.5**epoch
                for batch in run.steps(lambda epoch=epoch: (batches or self.batches)(epoch)):
                    if stop_in == run.progress.step + len(run._pending) + 1:
                        self.interrupts.requested = 15
                    run.count(self.step.queue(batch, rate))
                    if run.should_sync():
                        run.read()
                    if run.should_log():
                        run.log_step(rate, lambda run, rate, speed: "step {}".format(run.progress.step))
                    if run.should_save():
                        run.save()
                run.log_epoch(lambda epoch, speed: "epoch {}".format(epoch))
                if stop_in_evaluation:
                    raise Stopped(15)
                run.end_epoch(run.evaluate(self.evaluate))
        return self.step.weight, dataclasses.asdict(run.progress)


@pytest.fixture(params=[False, True], ids=["synchronous", "asynchronous"])
def asynchronous(request):
    return request.param


def test_a_run_stopped_in_any_step_and_resumed_is_the_uninterrupted_run(tmp_path, asynchronous):
    (tmp_path / "whole").mkdir()
    whole = Trial(tmp_path / "whole", asynchronous=asynchronous).train()
    for step in range(1, PLAN.total_steps + 1):
        folder = tmp_path / str(step)
        folder.mkdir()
        with contextlib.suppress(Stopped):  # one that comes in the last step finds nothing left to stop
            Trial(folder, asynchronous=asynchronous).train(stop_in=step)
        assert Trial(folder, asynchronous=asynchronous).train() == whole


def test_a_run_stopped_in_its_evaluation_evaluates_when_it_is_resumed(tmp_path):
    (tmp_path / "whole").mkdir()
    whole = Trial(tmp_path / "whole").train()
    with pytest.raises(Stopped):
        Trial(tmp_path).train(stop_in_evaluation=True)
    again = Trial(tmp_path)
    assert again.run.progress.step_in_epoch == PLAN.steps_per_epoch
    assert again.train() == whole
    assert again.evaluated == [4, 8, 12]
    finished = Trial(tmp_path)
    assert finished.train()[0] == whole[0]
    assert finished.evaluated == [12]


def test_a_sitting_without_a_step_leaves_what_is_said_of_those_that_computed(tmp_path):
    """A run that is stopped as it begins on another machine, or is finished, and goes on where it began."""
    here = {"arithmetic": {"threads": 2}, "speed": {"machine": "ours"}}
    there = {"arithmetic": {"threads": 1}, "speed": {"machine": "theirs"}}
    first = Trial(tmp_path, constant=here)
    with pytest.raises(Stopped):
        first.train(stop_in=3)
    timed = first.run.clock.summary()["steps_timed"]
    elsewhere = Trial(tmp_path, constant=there)
    elsewhere.interrupts.requested = 15
    with pytest.raises(Stopped):
        elsewhere.train()
    saved = json.loads(sorted((tmp_path / "saved").glob("*.json"))[-1].read_text())
    assert {name: saved[name] for name in here} == here
    assert (saved["clock"]["steps"], saved["history"]["begun_on"]) == (timed, [])
    back = Trial(tmp_path, constant=here)
    assert back.run.clock.summary()["steps_timed"] == timed
    back.train()
    assert "begun_on" not in back.run.record()
    finished = Trial(tmp_path, constant=there)
    finished.train()
    assert finished.run.record()["throughput"] == {}  # it was not measured there
    assert finished.run.record()["begun_on"] == ["threads 2, machine ours"]
    assert Trial(tmp_path, constant=here).run.clock.summary() == back.run.clock.summary()


@pytest.mark.parametrize("most", [1, 2, 3, 5])
def test_steps_that_are_run_when_they_are_read_are_the_same(tmp_path, most):
    """Also one that is stopped before queued steps have been run: they are run, and it stops behind them."""
    (tmp_path / "whole").mkdir()
    whole = Trial(tmp_path / "whole").train()
    plan = dataclasses.replace(PLAN, print_freq=100)
    for step in range(1, PLAN.total_steps + 1):
        folder = tmp_path / str(step)
        folder.mkdir()
        with contextlib.suppress(Stopped):
            Trial(folder, plan, steps_per_call=most).train(stop_in=step)
        assert int(max((folder / "saved").iterdir()).stem) == step
        assert Trial(folder, plan, steps_per_call=most).train() == whole


def test_a_call_ends_where_results_are_needed_or_it_is_full(tmp_path):
    plan = dataclasses.replace(PLAN, epochs=1, steps_per_epoch=20, total_steps=20, print_freq=10, save_steps=7)
    trial = Trial(tmp_path, plan, steps_per_call=4)
    trial.train()
    assert trial.step.reads == [1, 4, 2, 3, 4, 4, 2]  # warm-up, full, saved, logged, full and saved, full, the end
    trial = Trial(tmp_path, dataclasses.replace(plan, total_steps=30), steps_per_call=4)
    trial.step.run = raising(Stopped(15))  # a second signal, during a call
    with pytest.raises(Stopped):
        trial.train()
    assert int(max((tmp_path / "saved").iterdir()).stem) == 20


def test_the_wait_for_data_that_steps_have_measured_is_the_clocks(tmp_path):
    trial = Trial(tmp_path, dataclasses.replace(PLAN, warm_up_steps=0))
    seen = []
    trial.run.clock.step = lambda images, data_wait, count, _: seen.append((images, data_wait, count))
    for waits in ((0.25, 0.5), (None, None), (None, 0.125)):
        for wait in waits:
            trial.run.count(StepResult(1.0, 0, 0, 8, wait))
        assert trial.run.read() == 2
    assert trial.run.read() == 0
    assert seen == [(16, 0.75, 2), (16, None, 2), (16, 0.125, 2)]


def test_the_time_of_a_compilation_is_no_throughput(tmp_path):
    trial = Trial(tmp_path, dataclasses.replace(PLAN, warm_up_steps=0))
    for compiled in ((False, False), (False, True), (False, False)):
        for one in compiled:
            trial.run.count(StepResult(1.0, 0, 0, 8, compiled=one))
        trial.run.read()
    assert trial.run.clock.summary()["steps_timed"] == 4


def test_results_are_read_where_they_are_needed_alone(tmp_path):
    plan = dataclasses.replace(PLAN, print_freq=100, save_steps=None, warm_up_steps=3)
    trial = Trial(tmp_path, plan, asynchronous=True)
    trial.train()
    assert trial.step.reads == [3, 1, 4, 4]  # the end of the warm-up, then the ends of the epochs


def test_when_it_logs_and_saves(tmp_path):
    plan = dataclasses.replace(PLAN, print_freq=3)
    log = RunLog(tmp_path)
    with log:
        Trial(tmp_path, plan, log=log).train()
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [event["step"] for event in events if event["event"] == "step"] == [3, 4, 7, 8, 11, 12]
    assert [event["step"] for event in events if event["event"] == "evaluation"] == [4, 8, 12]
    assert sorted(int(path.stem) for path in (tmp_path / "saved").iterdir()) == [3, 4, 6, 8, 9, 12]
    by_run = Trial(tmp_path, dataclasses.replace(plan, print_by_epoch=False), log=RunLog(None, silent=True)).run
    by_run.progress.step, by_run.progress.step_in_epoch = 5, 1
    assert by_run.should_log(1)
    assert not by_run.should_log(2)


def test_the_end_of_a_shortened_run_is_evaluated(tmp_path):
    trial = Trial(tmp_path, dataclasses.replace(PLAN, total_steps=6))
    progress = trial.train()[1]
    assert trial.evaluated == [4, 6]
    assert (progress["epoch"], progress["step_in_epoch"]) == (1, 2)
    record = trial.run.record()
    assert (record["epochs_completed"], record["steps_completed"], record["images_trained"]) == (1, 6, 48)


def test_steps_that_were_left_out(tmp_path):
    some = Trial(tmp_path)
    some.train(batches=lambda epoch: iter([None, 1, None, 2]))
    assert (some.run.progress.step, some.run.progress.images) == (12, 6 * 8)
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="not one step of a whole epoch has images"):
        Trial(tmp_path / "none").train(batches=lambda epoch: itertools.repeat(None))


def test_numbers_that_are_not_finite_end_it_before_a_checkpoint(tmp_path):
    with pytest.raises(UsageError, match="a weight is not finite after step 3; lower it"):
        Trial(tmp_path, dataclasses.replace(PLAN, print_freq=100, warm_up_steps=0)).train(
            batches=lambda epoch: itertools.repeat(10**7)
        )
    assert not (tmp_path / "saved").exists()
    zero = iter([1, 1, 1])

    def nan(batch, rate):
        return StepResult(float("nan") if next(zero, None) is None else 1.0, 0, 0, 8)

    trial = Trial(tmp_path)
    trial.step.run = nan
    with pytest.raises(UsageError, match="the loss is nan at step 4"):
        trial.train()


def raising(error):
    def run(batch, rate):
        raise error

    return run


def test_how_it_ends_says_how_to_go_on(tmp_path, capsys):
    with RunLog(tmp_path) as log, pytest.raises(Stopped):
        Trial(tmp_path, log=log).train(stop_in=2)
    assert "stopped at step 2; continue exactly with --resume {}".format(tmp_path) in capsys.readouterr().out
    with RunLog(tmp_path) as log:
        trial = Trial(tmp_path, log=log)
        trial.step.run = raising(Stopped(15))  # a second signal
        with pytest.raises(Stopped):
            trial.train()
    assert "stopped in the middle of a step; --resume {} goes on".format(tmp_path) in capsys.readouterr().out
    trial = Trial(tmp_path)
    trial.step.run = raising(RunEnded("the disk is gone"))
    with pytest.raises(RunEnded, match="the disk is gone; then start again"):
        trial.train()


def test_a_process_that_writes_nothing(tmp_path):
    run = Trial(tmp_path).run
    run._write_checkpoint = None
    run.save(last=True)
    assert not (tmp_path / "saved").exists()


class OneOfTwo(StopAgreement):
    """Its store is a dictionary that both have."""

    size = 2

    def __init__(self, store):
        self._store = store

    def propose_stop(self, number, step):
        self._store.setdefault("stop", (number, step))

    def agreed_stop(self, step):
        number, last = self._store.get("stop", (0, 10**9))
        return number if step >= last else None


@pytest.mark.parametrize(("asynchronous", "stopped"), [(False, 2), (True, 3)])
def test_two_processes_stop_before_the_same_step(tmp_path, asynchronous, stopped):
    """A signal comes to one during the first step: both stop at the next one, or where results are read next."""
    store = {}
    plan = dataclasses.replace(PLAN, save_steps=None, print_freq=3, warm_up_steps=0)
    runs = [Trial(tmp_path, plan, asynchronous, OneOfTwo(store)).run for _ in range(2)]
    steps = [run.steps(lambda: itertools.repeat(1)) for run in runs]
    ended = []
    for number in range(1, 7):
        for run, batches in zip(runs, steps):
            try:
                next(batches)
            except Stopped:
                ended.append(run.progress.step)
                continue
            run.count(run.step.run(1, 0.0))
            if run.should_sync() or not asynchronous:
                run.read()
        if number == 1:
            runs[1]._interrupts.requested = 15
        if ended:
            break
    assert ended == [stopped, stopped]


# -- what is logged ----------------------------------------------------------------------------------------------

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
