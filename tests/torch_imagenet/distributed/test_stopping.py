"""However ranks run ahead of one another, and whichever is asked to stop when: all stop before the same step."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from pathlib import Path  # noqa: E402

from shared import recipes  # noqa: E402
from shared.cli.signals import Interrupts, Stopped  # noqa: E402
from shared.run.clock import Clock  # noqa: E402
from shared.run.progress import Progress  # noqa: E402
from torch_imagenet.distributed.process_group import Ranks  # noqa: E402
from torch_imagenet.loop import Loop, Plan  # noqa: E402


class OneOfSeveral(Ranks):
    """Ranks whose store is a dictionary."""

    def __init__(self, rank, size, store):
        self.rank, self.size, self._store = rank, size, store

    def propose_stop(self, number, step):
        self._store.setdefault("stop", json.dumps([number, step]))

    def agreed_stop(self, step):
        number, last = json.loads(self._store.get("stop", "[0, 1e9]"))
        return number if step >= last else None


def _loop(rank, size, store, plan, asynchronous):
    step = SimpleNamespace(
        device=SimpleNamespace(asynchronous=asynchronous),
        magnitude=lambda: torch.zeros([]),
        check_numbers=lambda step, magnitude, ended: None,
        where_not_finite=lambda: "",
    )
    bad = SimpleNamespace(note=lambda texts: None)
    return Loop(
        step,
        None,
        None,
        None,
        None,
        Path(),
        recipes.get("se_resnet50_1p"),
        plan,
        Progress(),
        Clock(),
        None,
        Interrupts(),
        bad,
        OneOfSeveral(rank, size, store),
    )


def _training(rank, loops, begun):
    """What `Loop._train_epoch` does in one rank, giving way to the others wherever a real one may be overtaken.

    `begun[r]` is how many steps rank r has begun. What a step computes is there when all ranks have begun it: a device
    that works by itself makes the host wait for that where it is read, the CPU in the step itself.
    """
    loop = loops[rank]
    for _ in range(loop.plan.total_steps):
        yield
        loop._stop_if_asked()
        yield
        begun[rank] += 1
        loop._pending.append(torch.tensor([1.0, 0.0, 0.0, 1.0]))
        ahead = len(loop._pending)
        reads = loop._reads(ahead)
        while (reads or not loop.step.device.asynchronous) and min(begun) < begun[rank]:
            yield
        if reads:
            loop._read_device()


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
    plan, store, begun = Plan(total, total, print_freq, save_steps, warm_up), {}, [0] * size
    loops = [_loop(rank, size, store, plan, asynchronous) for rank in range(size)]
    running = {rank: _training(rank, loops, begun) for rank in range(size)}
    ended = {}
    asked = data.draw(st.dictionaries(st.integers(0, 60), st.integers(0, size - 1), max_size=3))
    for turn in range(10_000):
        if turn in asked:
            loops[asked[turn]].interrupts.requested = 15
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
    loops = [_loop(rank, 2, store, Plan(9, 9, 5, None, 0), asynchronous) for rank in range(2)]
    running = {rank: _training(rank, loops, begun) for rank in range(2)}
    while running:
        if begun == [1, 1]:
            loops[1].interrupts.requested = 15
        for rank in list(running):
            try:
                next(running[rank])
            except Stopped:
                del running[rank]
    assert begun == [wanted, wanted]
