"""However ranks run ahead of one another, and whichever is asked to stop when: all stop before the same step."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from shared.run.log import RunLog  # noqa: E402
from shared.run.loop import Run, Step, StepResult  # noqa: E402
from shared.run.plan import Plan  # noqa: E402
from shared.system.signals import Interrupts, Stopped  # noqa: E402
from torch_imagenet.distributed.process_group import Ranks  # noqa: E402


class OneOfSeveral(Ranks):
    """Ranks whose store is a dictionary."""

    def __init__(self, rank, size, store):
        self.rank, self.size, self._store = rank, size, store

    def propose_stop(self, number, step):
        self._store.setdefault("stop", json.dumps([number, step]))

    def agreed_stop(self, step):
        number, last = json.loads(self._store.get("stop", "[0, 1e9]"))
        return number if step >= last else None


def _run(rank, size, store, plan, asynchronous):
    step = Step()
    step.asynchronous = asynchronous
    return Run(plan, step, RunLog(None, silent=True), Interrupts(), None, None, ranks=OneOfSeveral(rank, size, store))


def _training(rank, runs, begun):
    """What `training.train` does in one rank, giving way to the others wherever a real one may be overtaken.

    `begun[r]` is how many steps rank r has begun. What a step computes is there when all ranks have begun it: a device
    that works by itself makes the host wait for that where it is read, the CPU in the step itself.
    """
    run = runs[rank]

    def batches():
        while True:
            yield

    for _ in run.steps(batches):
        yield
        begun[rank] += 1
        run.count(StepResult(1.0, 0, 0, 1))
        reads = run.should_sync()
        while (reads or not run.step.asynchronous) and min(begun) < begun[rank]:
            yield
        if reads:
            run.read()
        yield


@settings(max_examples=150, deadline=None)
@given(
    data=st.data(),
    size=st.integers(2, 4),
    asynchronous=st.booleans(),
    total=st.integers(1, 12),
    print_freq=st.integers(1, 5),
    save_steps=st.none() | st.integers(1, 4),
    warm_up=st.integers(0, 3),
)
def test_all_stop_before_the_same_step(data, size, asynchronous, total, print_freq, save_steps, warm_up):
    plan, store, begun = Plan(1, total, total, print_freq, save_steps, warm_up), {}, [0] * size
    runs = [_run(rank, size, store, plan, asynchronous) for rank in range(size)]
    running = {rank: _training(rank, runs, begun) for rank in range(size)}
    ended = {}
    asked = data.draw(st.dictionaries(st.integers(0, 60), st.integers(0, size - 1), max_size=3))
    for turn in range(10_000):
        if turn in asked:
            runs[asked[turn]]._interrupts.requested = 15
        if not running:
            break
        rank = data.draw(st.sampled_from(sorted(running))) if turn < 200 else sorted(running)[turn % len(running)]
        try:
            next(running[rank])
        except Stopped:
            ended[rank] = begun[rank]
            del running[rank]
        except StopIteration:
            ended[rank] = "the end"
            del running[rank]
    assert not running, "the ranks wait for one another"
    assert len(set(ended.values())) == 1, ended
    if not store:
        assert set(ended.values()) == {"the end"}


@pytest.mark.parametrize(("asynchronous", "wanted"), [(False, 2), (True, 5)])
def test_the_cpu_stops_at_the_next_step_and_a_device_where_it_is_read(asynchronous, wanted):
    store, begun = {}, [0, 0]
    runs = [_run(rank, 2, store, Plan(1, 9, 9, 5, None, 0), asynchronous) for rank in range(2)]
    running = {rank: _training(rank, runs, begun) for rank in range(2)}
    while running:
        if begun == [1, 1]:
            runs[1]._interrupts.requested = 15
        for rank in list(running):
            try:
                next(running[rank])
            except Stopped:
                del running[rank]
    assert begun == [wanted, wanted]
