"""When, how long and by what a run is computed, in the record and in the states of its checkpoints."""

import json

import pytest

from shared.run import history, provenance
from shared.run.clock import Clock
from shared.run.history import History


@pytest.fixture
def clock(monkeypatch):
    """The seconds that `time.monotonic` gives, in a list."""
    seconds = [1000.0]
    monkeypatch.setattr(history.time, "monotonic", lambda: seconds[0])
    return seconds


def _sitting(clock, state, seconds, started, commit="c0ffee"):
    """The history after a sitting of so many seconds."""
    found = History(started, begin=clock[0], commit=commit)
    clock[0] += seconds
    return found.continued(state, {"arithmetic": {}})


def test_a_run_of_one_sitting(clock):
    assert _sitting(clock, None, 7.5, "2026-11-30T08:00:00+00:00").record() == {
        "commit": "c0ffee",
        "started": "2026-11-30T08:00:00+00:00",
        "seconds": 7.5,
    }


def test_hours_are_of_all_sittings(clock):
    """What lies between two of them does not count, nor what one did after its last checkpoint."""
    state = None
    for day, seconds in enumerate((100.0, 20.0, 3.0)):
        sitting = _sitting(clock, state, seconds, f"2026-11-{10 + day}T08:00:00+00:00")
        state = json.loads(json.dumps({"clock": Clock().to_state(), "history": sitting.record()}))
        clock[0] += 86400.0
    assert state["history"] == {"commit": "c0ffee", "started": "2026-11-10T08:00:00+00:00", "seconds": 123.0}


def test_a_checkpoint_of_before_has_its_timed_steps(clock):
    state = {"clock": dict(Clock().to_state(), seconds=50.0)}
    found = _sitting(clock, state, 4.0, "2026-11-30T08:00:00+00:00").record()
    assert found == {"commit": "c0ffee", "started": "2026-11-30T08:00:00+00:00", "seconds": 54.0}


@pytest.mark.parametrize(
    ("commits", "earlier"),
    [(["a", "a"], None), (["a", "b", "b"], ["a"]), (["a", "b", "a"], ["a", "b"]), ([None, "b"], None)],
)
def test_a_record_names_the_commits_of_all_sittings(clock, commits, earlier):
    state = None
    for commit in commits:
        sitting = _sitting(clock, state, 1.0, "2026-11-30T08:00:00+00:00", commit).record()
        state = {"clock": Clock().to_state(), "history": sitting}
    assert sitting["commit"] == commits[-1]
    assert sitting.get("earlier_commits") == earlier


def test_the_commit_is_the_one_that_runs_and_not_the_checkouts_at_the_end(monkeypatch):
    monkeypatch.setattr(provenance, "_git", lambda root, *words: {"--show-toplevel": str(root)}.get(words[-1], "1"))
    history = History()
    assert history.commit == "1-dirty"
    monkeypatch.setattr(provenance, "_git", lambda root, *words: None)
    assert history.record()["commit"] == "1-dirty"


CPU = {"device": "cpu, AMD EPYC", "threads": 2, "instructions": "avx2", "revision_of_the_step": 3}


def _state(**more):
    clock = Clock(0, iter([0.0, 8.0]).__next__)
    clock.step(images=16)
    return {"clock": clock.to_state(), "arithmetic": CPU, **more}


SPEED = {"machine": "AMD EPYC with avx2, 2 cores", "compile_mode": None}
WAS = "device cpu, AMD EPYC, threads 2, instructions avx2"


def _here(arithmetic=CPU, speed=SPEED):
    return {"arithmetic": arithmetic, "speed": speed}


def test_a_run_that_begins_is_timed_from_its_beginning():
    history = History()
    assert history.continued(None, _here()) == history
    assert not history.timed_anew


@pytest.mark.parametrize("now", [CPU, {"device": "cpu, AMD EPYC", "compiled": True}])
def test_where_nothing_is_known_to_differ_throughput_is_of_all_sittings(now):
    state = _state(history={"started": "2026-11-30T08:00:00+00:00", "seconds": 9.0})
    history = History().continued(state, _here(now))
    assert (history.started, history.earlier) == ("2026-11-30T08:00:00+00:00", 9.0)
    assert (history.timed_anew, history.begun_on) == (False, ())


@pytest.mark.parametrize(
    ("now", "was"),
    [
        (_here({**CPU, "threads": 16}), WAS),
        (_here({"device": "cuda, NVIDIA H200", "threads": None}), WAS),
        # As many threads as before, which share a core now.
        (_here(speed={"machine": "AMD EPYC with avx2, 1 core"}), f"{WAS}, machine {SPEED['machine']}"),
    ],
)
def test_on_other_hardware_throughput_is_measured_anew_and_the_record_names_the_other(now, was):
    state = _state(speed=SPEED) if "machine" in was else _state()
    history = History().continued(state, now)
    assert (history.timed_anew, history.earlier) == (True, 8.0)
    assert history.record()["begun_on"] == [was]
    again = {"clock": Clock().to_state(), "history": history.record(), **now}
    history = History().continued(again, _here())
    assert history.begun_on[0] == was
    assert len(history.begun_on) == 2


@pytest.mark.parametrize(
    "now", [_here({**CPU, "revision_of_the_step": 4}), _here(speed={**SPEED, "compile_mode": "max-autotune"})]
)
def test_on_the_same_hardware_another_step_has_its_own_throughput(now):
    history = History().continued(_state(speed=SPEED), now)
    assert (history.timed_anew, history.earlier, history.begun_on) == (True, 8.0, ())


def test_a_checkpoint_of_before_the_revisions_has_the_throughput_of_the_first():
    state = _state()
    state["arithmetic"] = {name: value for name, value in CPU.items() if name != "revision_of_the_step"}
    assert History().continued(state, _here()).timed_anew


def test_a_checkpoint_that_does_not_say_where_it_was_made_has_a_known_throughput():
    state = {"clock": _state()["clock"]}
    assert not History().continued(state, _here()).timed_anew


def test_hardware_without_a_name_is_not_named():
    state = _state()
    state["arithmetic"] = {"device": None, "threads": None}
    assert History().continued(state, _here()).begun_on == ()
