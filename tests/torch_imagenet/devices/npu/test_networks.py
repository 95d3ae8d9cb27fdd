"""The three networks on the simulated NPU, in their full width and depth, on small images."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

OPERATORS = Path(__file__).resolve().parents[3] / "fakes" / "torch_npu_names" / "operators.txt"
NETWORKS = ("se_resnet50", "senet154", "pnasnet5large")


@pytest.fixture(scope="module")
def facts(on_npu):
    return on_npu(*NETWORKS, "resumed se_resnet50", "tuned se_resnet50", "O1", "O2", "synchronised")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "trained"),
    [*((name, [1]) for name in NETWORKS), ("resumed se_resnet50", [1, 2]), ("tuned se_resnet50", [1])],
)  # what resuming and fine-tuning do is the same for all of them
def test_a_network_is_trained_evaluated_resumed_and_tuned_as_on_the_cpu(name, trained, facts):
    found = facts[name]
    assert found["status"] == [0, 0]
    assert found["kinds"] == ["cpu", "npu"]
    assert found["tensors"] > 300
    assert found["different"] == []
    assert found["events"][0] == found["events"][1]
    assert [event["step"] for event in found["events"][0] if event["event"] == "step"] == trained
    assert found["evaluation"][0]["images"] == 10
    assert found["evaluation"][0] == found["evaluation"][1]


@pytest.mark.slow
@pytest.mark.skipif(not torch.__version__.startswith("2.13"), reason="the list is of torch 2.13")
def test_the_operators_that_run_are_those_held_against_the_real_torch_npu(facts):
    """What trainings and evaluations ask of a device: tests/fakes/torch_npu_names looks for each of these kernels."""
    assert facts["operators"] == OPERATORS.read_text().split()
