"""`--device npu:0` on the simulated NPU: the CPU's numbers bit for bit, in every precision and mode."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.slow  # the first of them waits for all that the simulated NPU does
LEVELS = ("O0", "O1", "O2", "bf16", "static")
SCALED = ("overflow O1", "overflow O2")


@pytest.fixture(scope="module")
def facts(on_npu):
    return on_npu(
        *LEVELS,
        *SCALED,
        "resume",
        "finetune",
        "evaluate",
        "forgotten transfer",
        "forgotten seed",
        "indices",
        "measuring",
    )


def _same_as_on_the_cpu(pair):
    assert pair["status"] == [0, 0]
    assert pair["kinds"] == ["cpu", "npu"]
    assert pair["tensors"] > 20
    assert pair["different"] == []
    cpu, npu = pair["events"]
    assert cpu
    assert npu == cpu
    assert pair["evaluation"][0] == pair["evaluation"][1]


@pytest.mark.parametrize("name", LEVELS)
def test_training_gives_the_cpus_weights_and_losses(name, facts):
    _same_as_on_the_cpu(facts[name])


@pytest.mark.parametrize("name", SCALED)
def test_a_step_that_overflows_is_left_out(name, facts):
    _same_as_on_the_cpu(facts[name])
    last = facts[name]["events"][1][-2]
    assert last["event"] == "step"
    assert 0 < last["steps_skipped"] < last["step"]
    assert last["loss_scale"] < 2**20


def test_a_stopped_run_goes_on_to_the_weights_of_the_undisturbed_one_on_the_cpu(facts):
    assert facts["resume"]["stopped"] == 143
    _same_as_on_the_cpu(facts["resume"])


def test_fine_tuning(facts):
    _same_as_on_the_cpu(facts["finetune"])


@pytest.mark.parametrize("trained_on", ["cpu", "npu"])
def test_a_checkpoint_can_be_evaluated_on_either_device(trained_on, facts):
    on_cpu, on_npu = facts["evaluate"][trained_on]
    assert on_cpu["images"] == 10
    assert on_cpu == on_npu


def test_a_forgotten_transfer_fails(facts):
    assert "all tensors must be on one device, found cpu and npu:0" in facts["forgotten transfer"]["error"]


def test_a_generator_that_is_not_seeded_is_seen(facts):
    """Otherwise the equality above would say nothing of dropout on a device with its own generator."""
    assert facts["forgotten seed"]["different"]


def test_every_spelling_names_its_device(facts):
    found = facts["indices"]
    assert found["status"] == {"npu": 0, "npu:1": 0, "auto": 0}
    assert {device["kind"] for device in found["device"].values()} == {"npu"}
    assert found["second_used"]
    assert all(peak > 10_000 for peak in found["peak_memory"].values())


def test_what_is_not_there_is_one_line(facts):
    assert facts["indices"]["missing"] == [2, 2]
    assert facts["indices"]["errors"] == [
        "error: there is no npu:7 here; choose npu:0 to npu:1",
        "error: torch_npu has no channels_last tensors; leave --memory-format out",
    ]


def test_benchmark_and_profile_leave_the_compiling_steps_out(facts):
    found = facts["measuring"]
    for mode in ("benchmark", "profile"):
        assert found[mode]["status"] == 0
        assert found[mode]["record"]["device"]["kind"] == "npu"
        assert found[mode]["steps"] == 10 + 2
    assert found["benchmark"]["record"]["throughput"]["steps_timed"] == 2
    assert found["trace"] > 10
