"""How long a run takes, in the record and in the states of its checkpoints."""

import json

import pytest

from shared.run import duration
from shared.run.clock import Clock
from shared.run.duration import Duration


@pytest.fixture
def clock(monkeypatch):
    """The seconds that `time.monotonic` gives, in a list."""
    seconds = [1000.0]
    monkeypatch.setattr(duration.time, "monotonic", lambda: seconds[0])
    return seconds


def _sitting(clock, state, seconds, started):
    """The duration of a sitting of so many seconds."""
    found = Duration(started, begin=clock[0])
    clock[0] += seconds
    return found.continued(state, {})[1]


def test_a_run_of_one_sitting(clock):
    assert _sitting(clock, None, 7.5, "2026-11-30T08:00:00+00:00").record() == {
        "started": "2026-11-30T08:00:00+00:00",
        "seconds": 7.5,
    }


def test_hours_are_of_all_sittings(clock):
    """What lies between two of them does not count, nor what one did after its last checkpoint."""
    state = None
    for day, seconds in enumerate((100.0, 20.0, 3.0)):
        sitting = _sitting(clock, state, seconds, f"2026-11-{10 + day}T08:00:00+00:00")
        state = json.loads(json.dumps({"clock": Clock().to_state(), "duration": sitting.record()}))
        clock[0] += 86400.0
    assert state["duration"] == {"started": "2026-11-10T08:00:00+00:00", "seconds": 123.0}


def test_a_checkpoint_of_before_has_its_timed_steps(clock):
    state = {"clock": dict(Clock().to_state(), seconds=50.0)}
    found = _sitting(clock, state, 4.0, "2026-11-30T08:00:00+00:00").record()
    assert found == {"started": "2026-11-30T08:00:00+00:00", "seconds": 54.0}


CPU = {"device": "cpu, AMD EPYC", "threads": 2, "instructions": "avx2", "revision_of_the_step": 3}


def _state(**more):
    clock = Clock(0, iter([0.0, 8.0]).__next__)
    clock.step(images=16)
    return {"clock": clock.to_state(), "arithmetic": CPU, **more}


def test_a_run_that_begins_has_no_state():
    duration = Duration()
    assert duration.continued(None, CPU) == (None, duration)


@pytest.mark.parametrize("now", [CPU, {"device": "cpu, AMD EPYC", "compiled": True}])
def test_where_nothing_is_known_to_differ_throughput_is_of_all_sittings(now):
    state = _state(duration={"started": "2026-11-30T08:00:00+00:00", "seconds": 9.0})
    resumed, duration = Duration().continued(state, now)
    assert resumed == state
    assert (duration.started, duration.earlier, duration.begun_on) == ("2026-11-30T08:00:00+00:00", 9.0, ())


@pytest.mark.parametrize(
    ("now", "was"),
    [
        ({**CPU, "threads": 16}, "device cpu, AMD EPYC, threads 2, instructions avx2"),
        ({"device": "cuda, NVIDIA H200", "threads": None}, "device cpu, AMD EPYC, threads 2, instructions avx2"),
    ],
)
def test_on_other_hardware_throughput_is_measured_anew_and_the_record_names_the_other(now, was):
    resumed, duration = Duration().continued(_state(), now)
    assert Clock(0, state=resumed["clock"]).summary() == {}
    assert duration.earlier == 8.0
    assert duration.record()["begun_on"] == [was]
    again = {"clock": Clock().to_state(), "arithmetic": now, "duration": duration.record()}
    _, duration = Duration().continued(again, CPU)
    assert duration.begun_on[0] == was
    assert len(duration.begun_on) == 2


def test_on_the_same_hardware_another_step_has_its_own_throughput():
    resumed, duration = Duration().continued(_state(), {**CPU, "revision_of_the_step": 4})
    assert Clock(0, state=resumed["clock"]).summary() == {}
    assert (duration.earlier, duration.begun_on) == (8.0, ())


def test_a_checkpoint_of_before_the_revisions_has_the_throughput_of_the_first():
    state = _state()
    state["arithmetic"] = {name: value for name, value in CPU.items() if name != "revision_of_the_step"}
    resumed, _ = Duration().continued(state, CPU)
    assert Clock(0, state=resumed["clock"]).summary() == {}


def test_a_checkpoint_that_does_not_say_where_it_was_made_has_a_known_throughput():
    state = {"clock": _state()["clock"]}
    assert Duration().continued(state, CPU)[0] == state
