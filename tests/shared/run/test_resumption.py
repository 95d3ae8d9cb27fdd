"""Another run is refused; what rounds otherwise is said, one line each, with the way back."""

from __future__ import annotations

import pytest

from shared.class_names import Classes
from shared.errors import UsageError
from shared.run.resumption import check_same_data, refuse_less, remarks, rounding_changes

BEFORE = {"threads": 4, "memory_format": "channels_last", "compiled": False, "device": "cpu, A"}


def test_nothing_is_said_where_nothing_has_changed_or_nothing_is_known():
    assert rounding_changes(BEFORE, dict(BEFORE)) == []
    assert rounding_changes({}, BEFORE) == []


def test_each_change_has_a_line_that_names_both_and_what_to_do():
    lines = rounding_changes(
        BEFORE, {"threads": 2, "memory_format": "contiguous", "compiled": True, "device": "cpu, A"}
    )
    assert len(lines) == 3
    assert all("changes floating-point rounding" in line and "; " in line and "\n" not in line for line in lines)
    compiled, memory_format, threads = lines
    assert "compiled True and had False" in compiled
    assert "memory format contiguous and had channels_last" in memory_format
    assert memory_format.endswith("give --memory-format channels_last")
    assert "OMP_NUM_THREADS=4" in threads


def test_a_run_of_before_the_revisions_began_with_the_first():
    (line,) = rounding_changes({"threads": 4}, {"threads": 4, "revision_of_the_step": 2})
    assert "revision of the step 2 and had 1" in line
    assert "version of this program that began it" in line


def test_where_a_step_may_take_another_time_throughput_is_said_to_begin_anew():
    state = {"arithmetic": BEFORE, "speed": {"machine": "A, 4 cores", "decoder": "crop"}}
    assert remarks(state, state) == []
    assert remarks({"arithmetic": BEFORE}, state) == []  # of before this was stored
    (line,) = remarks(state, {**state, "speed": {"machine": "A, 2 cores", "decoder": "crop"}})
    assert line == "throughput is that of the steps from here on; changed: machine"
    rounding, line = remarks(state, {**state, "arithmetic": {**BEFORE, "threads": 2}})
    assert "threads 2 and had 4 before" in rounding
    assert line == "throughput is that of the steps from here on; changed: threads"


@pytest.mark.parametrize(
    ("so_far", "epochs", "steps", "says"),
    [
        ((8, 0, 80), 3, None, "in epoch 8 already and --epochs 3"),
        ((7, 1, 71), 7, None, "epoch 8 already and --epochs"),
        ((8, 0, 80), None, 79, "in step 80 already and --max-steps 79"),
        ((8, 0, 80), 8, 80, ""),
        ((7, 10, 80), 8, 80, ""),
        ((7, 1, 71), 8, None, ""),
        ((8, 0, 80), None, None, ""),
        ((0, 0, 0), 1, 1, ""),
    ],
)
def test_a_run_does_not_go_back(so_far, epochs, steps, says):
    progress = dict(zip(("epoch", "step_in_epoch", "step"), so_far))
    if not says:
        refuse_less(progress, epochs, steps)
        return
    with pytest.raises(UsageError, match=says) as caught:
        refuse_less(progress, epochs, steps)
    assert str(caught.value).count("; ") == 1


def test_a_run_goes_on_with_the_names_that_it_had():
    check_same_data({"fingerprint": "f", "classes": None}, "f", Classes(("a", "b")), "DIR")
    check_same_data({"fingerprint": "f", "classes": ["a", "b"]}, "f", Classes(("a", "b")), "DIR")
    check_same_data({"fingerprint": "f", "classes": ["a", "b"]}, "f", Classes.numbered(2), "DIR")
    with pytest.raises(UsageError, match=r"DIR .* others \(0 is b and was a, 1 is a and was b\); give that one"):
        check_same_data({"fingerprint": "f", "classes": ["a", "b"]}, "f", Classes(("b", "a")), "DIR")
    with pytest.raises(UsageError, match=r"others \(1 and were 2\)"):
        check_same_data({"fingerprint": "f", "classes": ["a", "b"]}, "f", Classes(("a",)), "DIR")
    with pytest.raises(UsageError, match=r"^DIR is not the data set that the run was trained on; give that one"):
        check_same_data({"fingerprint": "f"}, "g", Classes(("a", "b")), "DIR")
