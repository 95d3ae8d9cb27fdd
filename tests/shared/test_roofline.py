"""The arithmetic of a step's floor, against numbers worked out by hand."""

from __future__ import annotations

import pytest

from shared.roofline import SEPARATE, Accelerator, NetworkCost, describe, element_bytes, reached

COST = NetworkCost(parameters=1_000, multiply_adds=2_000_000, activations=30_000)
ACCELERATOR = Accelerator(operations=1e12, bandwidth=1e11)


def test_a_step_does_six_operations_for_each_multiply_add():
    assert ACCELERATOR.arithmetic_seconds(COST, 10) == pytest.approx(6 * 2e6 * 10 / 1e12)


def test_a_step_moves_each_activation_seven_times_or_fourteen():
    assert ACCELERATOR.memory_seconds(COST, 10, 2) == pytest.approx(14 * 30_000 * 10 / 1e11)
    assert ACCELERATOR.memory_seconds(COST, 10, 2, SEPARATE) == pytest.approx(28 * 30_000 * 10 / 1e11)


def test_the_floor_is_whichever_is_longer():
    assert ACCELERATOR.roofline_seconds(COST, 10, 2) == ACCELERATOR.arithmetic_seconds(COST, 10)
    assert Accelerator(1e12, 1e9).roofline_seconds(COST, 10, 2) == Accelerator(1e12, 1e9).memory_seconds(COST, 10, 2)


@pytest.mark.parametrize(("precision", "size"), [("O0", 4), ("O1", 2), ("O2", 2), ("bf16", 2)])
def test_bytes_of_an_activation(precision, size):
    assert element_bytes(precision) == size


def test_the_summarys_lines():
    lines = describe(COST, "O0", 10, ACCELERATOR)
    assert lines[0] == "parameters: 1,000"
    assert lines[1].startswith("multiply-adds: 2 M per image")
    assert lines[2].startswith("activations: 30 k per image, their outputs; 120 kB in O0, 1.2 MB in a batch of 10")
    assert [line.split()[-4] for line in lines[-3:]] == ["0.120", "0.084", "0.168"]
    assert [line.split()[-2] for line in lines[-3:]] == ["83,333", "119,048", "59,524"]
    assert "--peak-flops" in describe(COST, "O0", 10, None)[-1]


def test_the_share_that_a_run_has_reached():
    line = reached(0.002, {"step_ms_p50": 8.0})
    assert line == "roofline of a step: 2.000 ms, 25.0 % of the median step's 8.000 ms"
