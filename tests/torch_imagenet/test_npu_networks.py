"""The three networks on the simulated NPU, in their full width and depth, on small images."""

from __future__ import annotations

import pytest

NETWORKS = ("se_resnet50", "senet154", "pnasnet5large")


@pytest.fixture(scope="module")
def facts(on_npu):
    return on_npu(*NETWORKS)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_trains_and_evaluates_as_on_the_cpu(name, facts):
    found = facts[name]
    assert found["status"] == [0, 0]
    assert found["kinds"] == ["cpu", "npu"]
    assert found["tensors"] > 300
    assert found["different"] == []
    assert found["events"][0] == found["events"][1]
    assert found["evaluation"][0]["images"] == 10
    assert found["evaluation"][0] == found["evaluation"][1]
