"""check-port on the simulated NPU: every planted fault is found at its layer, and a clean port agrees."""

from __future__ import annotations

from typing import Any, Callable, Dict

import pytest

from tests.torch_imagenet.port_check.faults import FAULTS


@pytest.mark.slow
def test_faults_are_found_where_they_are(on_npu: Callable[..., Dict[str, Any]]) -> None:
    facts = on_npu("port")["port"]
    assert facts.pop("clean") is None
    for name, fault in FAULTS.items():
        stage, layer, quantity = facts[name]
        assert stage == fault.stage, name
        assert layer.startswith(fault.layer), name
        assert fault.quantity in quantity, name


@pytest.mark.slow
def test_grouped_convolutions_that_are_wrong_or_fail_are_named(on_npu: Callable[..., Dict[str, Any]]) -> None:
    facts = on_npu("grouped")["grouped"]
    assert [facts[case][0] for case in ("values", "forward", "backward", "dense")] == [3, 2, 2, 0]
    assert "in layer1.0; --grouped-conv " in " ".join(facts["values"][1])
    for case in ("values", "forward", "backward"):
        (said,) = [line for line in facts[case][1] if "--grouped-conv" in line]
        assert "dense is right" in said
        assert "split is right" in said
        if case != "values":
            where = "error: Simulated NPU fails in layer1.0 (3x3 convolution, 16 to 16 channels, 4 groups), "
            assert said.startswith(f"{where}{case}: simulated: no kernel for groups > 1; ")
