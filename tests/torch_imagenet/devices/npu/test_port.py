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
