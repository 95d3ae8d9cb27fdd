"""Who waits for the device, and what the options of an NPU change; on the simulated NPU."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.slow  # the first of them waits for all that the simulated NPU does
WAITING = ("waits O0", "waits O1", "waits O2", "waits log", "waits fused")


@pytest.fixture(scope="module")
def facts(on_npu):
    return on_npu(
        *WAITING,
        "settings",
        "internal format O0",
        "internal format O2",
        "npu_fused_sgd O0",
        "npu_fused_sgd O2",
        "torchs_fused_sgd",
        "synchronised",
    )


@pytest.mark.parametrize("name", ["waits O0", "waits O1", "waits O2"])
def test_nothing_waits_between_log_steps(name, facts):
    """O1 and O2 scale the loss dynamically. Images and labels come from page-locked memory, and nothing else comes."""
    assert facts[name]["status"] == 0
    assert len(facts[name]["steps"]) == 4
    for counted in facts[name]["steps"]:
        assert (counted["device_to_host"], counted["scalar_reads"], counted["waits"]) == (0, 0, 0)
        assert counted["host_to_device"] == 2
        assert counted["operators"] > 100


def test_a_log_step_waits_once(facts):
    assert [counted["waits"] for counted in facts["waits log"]["steps"]] == [1, 1, 1, 1]
    assert [counted["device_to_host"] for counted in facts["waits log"]["steps"]] == [1, 1, 1, 1]


def test_an_optimizer_that_waits_is_told_of(facts):
    """torch_npu's own leaves the loss scale's verdict to the host."""
    assert all(counted["scalar_reads"] == 1 for counted in facts["waits fused"]["steps"])
    note = "note: this optimizer leaves the loss scale to the host, which waits for the device after every step"
    assert note in facts["waits fused"]["log"].splitlines()
    assert note not in facts["waits O2"]["log"]


def test_the_options_reach_torch_npu_and_the_record(facts):
    off, on = facts["settings"]["told"]
    assert off == {"jit_compile": False, "allow_internal_format": False}
    assert on == {"jit_compile": True, "allow_internal_format": True}
    assert facts["settings"]["config"] == [
        {"npu_fused_sgd": False, "npu_jit_compile": False, "npu_internal_format": False},
        {"npu_fused_sgd": False, "npu_jit_compile": True, "npu_internal_format": True},
    ]


@pytest.mark.parametrize("precision", ["O0", "O2"])
def test_with_internal_formats_no_operator_takes_a_list_of_tensors(precision, facts):
    """The device refuses them all, as torch_npu does; the numbers are the CPU's to rounding, and the losses its own."""
    assert facts["settings"]["refused"] == "Current operator _foreach_norm do not support internal format."
    found = facts[f"internal format {precision}"]
    assert found["status"] == [0, 0]
    losses = [[event["loss"] for event in events if event["event"] == "step"] for events in found["events"]]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


@pytest.mark.parametrize("precision", ["O0", "O2"])
def test_npu_fused_sgd_takes_the_steps_of_torchs(precision, facts):
    """Also with gradients of several batches, an average of the weights, two groups, and after a checkpoint."""
    found = facts[f"npu_fused_sgd {precision}"]
    assert found["status"] == [0, 0, 0, 0]
    assert found["moved"] > 0.01
    assert found["largest_difference"] < 1e-5
    assert found["of_the_resumed"] == 0


def test_a_fused_kernel_that_fails_or_is_wrong_is_not_used(facts):
    """The Ascend 910 has it registered and refuses it in the first step."""
    found = facts["torchs_fused_sgd"]
    for fault, why in (
        ("fails", "fails here (simulated: aclnnApplyFusedSgd is not supported)"),
        ("values", "gives wrong weights here"),
    ):
        assert found[fault]["notes"] == [f"note: the fused SGD kernel {why}; the unfused form is used"]
        assert found[fault]["status"] == 0
        assert found[fault]["largest_difference"] < 1e-5
    assert (found[""]["notes"], found[""]["largest_difference"]) == ([], 0)


def test_synchronised_batch_normalisation_waits_for_nothing(facts):
    """torch's own removes ranks without images by a mask, and waits for what is left, in every layer."""
    assert facts["synchronised"]["waits"] == 0
    assert facts["synchronised"]["different"] < 1e-3
