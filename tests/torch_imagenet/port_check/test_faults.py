"""Every planted fault is found at the layer that has it, and a clean port agrees."""

from __future__ import annotations

from typing import Any

import pytest

from tests.torch_imagenet.port_check.faults import FAULTS, Fault, compared

CASES = [(name, level) for name, fault in FAULTS.items() for level in fault.precisions]


@pytest.mark.parametrize("level", ["O0", "bf16", "O1", "O2"])
def test_a_clean_port_agrees(level: str) -> None:
    found = compared(None, level, steps=3).verdict
    assert found.agrees, found.first
    assert max(check.units for check in found.checks if check.stage != "weights") > 0.01  # it has compared something


@pytest.mark.parametrize(("name", "level"), CASES)
def test_a_planted_fault_is_found_where_it_is(name: str, level: str) -> None:
    fault, found = FAULTS[name], compared(FAULTS[name], level).verdict
    first = found.first
    assert first is not None
    assert first.stage == fault.stage
    assert fault.quantity in first.quantity
    if fault.layer:
        assert first.layer.startswith(fault.layer)


def test_what_stands_behind_a_fault_is_right_by_itself() -> None:
    found = compared(FAULTS["wrong epsilon"], "O0").verdict
    assert {check.layer for check in found.causes if check.stage in ("forward", "backward")} == {"layer2.bn2"}
    assert "values differ" in found.first.hint or "times" in found.first.hint


def test_infinite_numbers_without_a_loss_scale_are_no_wrong_updates() -> None:
    def spoilt(network: Any) -> None:
        network.layer2.conv3.weight.data[0] = 1e38

    fault = Fault("forward", "layer2.bn3", "", weights=spoilt, network=spoilt)
    causes = compared(fault, "O0").verdict.causes
    assert "update" not in {check.stage for check in causes}
