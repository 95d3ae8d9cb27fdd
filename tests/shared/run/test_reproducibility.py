"""What rounds otherwise at a resumption is said, one line each, with the way back."""

from __future__ import annotations

from shared.run.reproducibility import changes

BEFORE = {"threads": 4, "memory_format": "channels_last", "compiled": False, "device": "cpu, A"}


def test_nothing_is_said_where_nothing_has_changed_or_nothing_is_known():
    assert changes(BEFORE, dict(BEFORE)) == []
    assert changes({}, BEFORE) == []


def test_each_change_has_a_line_that_names_both_and_what_to_do():
    lines = changes(BEFORE, {"threads": 2, "memory_format": "contiguous", "compiled": True, "device": "cpu, A"})
    assert len(lines) == 3
    assert all("changes floating-point rounding" in line and "; " in line and "\n" not in line for line in lines)
    compiled, memory_format, threads = lines
    assert "compiled True and began with False" in compiled
    assert "memory format contiguous and began with channels_last" in memory_format
    assert memory_format.endswith("give --memory-format channels_last")
    assert "OMP_NUM_THREADS=4" in threads
