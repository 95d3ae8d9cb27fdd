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
    return found.resumed(state) if state else found


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
