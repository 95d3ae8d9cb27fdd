"""Which rank a process is, from what torchrun, Kubernetes and Slurm put into its environment."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import UsageError
from torch_imagenet.distributed.environment import continued_job, first_host, job_name, process_environment
from torch_imagenet.options import RunConfig

ALONE = RunConfig.from_argv([])
DISTRIBUTED = RunConfig.from_argv(["--distributed"])
TORCHRUN = {
    "RANK": "5",
    "WORLD_SIZE": "8",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "4",
    "MASTER_ADDR": "h",
    "MASTER_PORT": "29500",
}
SLURM = {
    "SLURM_STEP_ID": "0",
    "SLURM_PROCID": "9",
    "SLURM_STEP_NUM_TASKS": "16",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_TASKS_PER_NODE": "8(x2)",
    "SLURM_STEP_NODELIST": "gpu[07,09-12]",
    "SLURM_JOB_ID": "41234",
}


def ranks(config, environment):
    """Rank, size, local rank and local size."""
    place = process_environment(config, environment)
    return place.rank, place.size, place.local_rank, place.local_size


def test_nobody_has_started_several():
    assert process_environment(ALONE, {}) is None
    assert process_environment(DISTRIBUTED, {}) is None


def test_torchrun():
    assert ranks(ALONE, TORCHRUN) == (5, 8, 1, 4)
    assert process_environment(ALONE, TORCHRUN).variables["MASTER_ADDR"] == "h"


def test_torch_distributed_launch_passes_the_local_rank_as_an_option_too():
    config = RunConfig.from_argv(["--local-rank", "1"])
    assert ranks(config, TORCHRUN) == (5, 8, 1, 4)
    for environment in ({}, {**TORCHRUN, "LOCAL_RANK": "2"}):
        with pytest.raises(UsageError, match="--local-rank 1 is what torch.distributed.launch passes.*; .*torchrun"):
            process_environment(config, environment)


def test_a_kubernetes_pod_with_one_process_has_no_local_rank():
    environment = {key: TORCHRUN[key] for key in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")}
    assert ranks(ALONE, environment) == (5, 8, 0, 1)


def test_slurm():
    assert ranks(DISTRIBUTED, SLURM) == (9, 16, 1, 8)
    assert process_environment(DISTRIBUTED, SLURM).variables == {
        "RANK": "9",
        "WORLD_SIZE": "16",
        "MASTER_ADDR": "gpu07",
        "MASTER_PORT": "21234",
    }
    assert process_environment(DISTRIBUTED, {**SLURM, "MASTER_ADDR": "10.0.0.1"}).variables["MASTER_ADDR"] == "10.0.0.1"


@pytest.mark.parametrize(
    "environment",
    [{}, {key: SLURM[key] for key in SLURM if key != "SLURM_STEP_ID"}, {**SLURM, "SLURM_STEP_NUM_TASKS": "1"}],
)
def test_a_batch_script_of_slurm_is_no_step_and_starts_the_ranks_itself(environment):
    assert process_environment(DISTRIBUTED, environment) is None
    assert process_environment(ALONE, SLURM) is None


@given(nodes=st.integers(2, 9), devices=st.integers(1, 9), data=st.data())
def test_our_launcher_numbers_the_machines_as_the_user_has(nodes, devices, data):
    """torch's numbers follow the machines' addresses; a permutation of them must give every rank once."""
    order = data.draw(st.permutations(range(nodes)))
    ranks = []
    for torch_number, node in enumerate(order):
        config = replace(DISTRIBUTED, nnodes=nodes, node_rank=node, num_devices=devices)
        for local in range(devices):
            environment = {
                **TORCHRUN,
                "RANK": str(torch_number * devices + local),
                "LOCAL_RANK": str(local),
                "WORLD_SIZE": str(nodes * devices),
                "LOCAL_WORLD_SIZE": str(devices),
            }
            place = process_environment(config, environment)
            assert place.rank // devices == node
            ranks.append(place.rank)
    assert sorted(ranks) == list(range(nodes * devices))


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({**TORCHRUN, "RANK": "eight"}, "RANK is 'eight' in the environment, not a number"),
        ({**TORCHRUN, "RANK": "8"}, "rank 8 of 8 is impossible"),
        ({**TORCHRUN, "LOCAL_RANK": "4"}, "local rank 4 of 4 is impossible"),
    ],
)
def test_what_makes_no_sense_is_one_line(environment, message):
    with pytest.raises(UsageError, match=message):
        process_environment(ALONE, environment)


def test_a_missing_address_is_one_line():
    with pytest.raises(UsageError, match="MASTER_ADDR is not set"):
        process_environment(ALONE, {"RANK": "0", "WORLD_SIZE": "2", "MASTER_PORT": "1"})
    assert ranks(ALONE, {"RANK": "0", "WORLD_SIZE": "1"}) == (0, 1, 0, 1)  # needs none


@pytest.mark.parametrize(
    ("nodes", "host"),
    [("node7", "node7"), ("node[03-07,11],other2", "node03"), ("a-[1,5]-ib", "a-1-ib"), ("x1,x2", "x1"), ("", "")],
)
def test_the_first_host_of_a_node_list(nodes, host):
    assert first_host(nodes) == host


# -- a process that is started again goes on with its own job's run, and with nobody else's --------------------

NAMES = ("KIT_JOB", "TORCHELASTIC_RUN_ID", "SLURM_STEP_ID", "SLURM_JOB_ID", "SLURM_RESTART_COUNT")


@pytest.fixture
def environment(monkeypatch):
    def set_to(**values):
        for name in NAMES:
            monkeypatch.delenv(name, raising=False)
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return set_to


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({}, None),
        ({"TORCHELASTIC_RUN_ID": "none"}, None),
        ({"TORCHELASTIC_RUN_ID": "17"}, "17"),
        ({"KIT_JOB": "mine", "TORCHELASTIC_RUN_ID": "17"}, "mine"),
        ({"SLURM_STEP_ID": "0", "SLURM_JOB_ID": "4"}, "slurm-4"),
        ({"SLURM_JOB_ID": "4"}, None),
    ],
)
def test_the_name_of_the_job(environment, values, name):
    environment(**values)
    assert job_name() == name


@pytest.mark.parametrize(
    ("first", "second", "goes_on"),
    [
        ({"KIT_JOB": "a"}, {"KIT_JOB": "a"}, True),
        ({"KIT_JOB": "a"}, {"KIT_JOB": "b"}, False),
        ({}, {"KIT_JOB": "a"}, False),
        ({"KIT_JOB": "a"}, {}, False),
        ({"SLURM_STEP_ID": "0", "SLURM_JOB_ID": "4"}, {"SLURM_STEP_ID": "1", "SLURM_JOB_ID": "4"}, False),
        (
            {"SLURM_STEP_ID": "0", "SLURM_JOB_ID": "4"},
            {"SLURM_STEP_ID": "0", "SLURM_JOB_ID": "4", "SLURM_RESTART_COUNT": "1"},
            True,
        ),
    ],
)
def test_which_run_is_gone_on_with(environment, tmp_path, first, second, goes_on):
    config = RunConfig.from_argv(["--output-dir", str(tmp_path)])
    environment(**first)
    (tmp_path / "config.json").write_text(json.dumps({"job": job_name()}))
    environment(**second)
    assert not continued_job(config)  # there is no checkpoint yet
    (tmp_path / "checkpoints" / "last").mkdir(parents=True)
    assert continued_job(config) is goes_on


def test_a_folder_without_a_readable_config_is_a_new_run(environment, tmp_path):
    environment(KIT_JOB="a")
    (tmp_path / "checkpoints" / "last").mkdir(parents=True)
    assert not continued_job(RunConfig.from_argv(["--output-dir", str(tmp_path)]))
    (tmp_path / "config.json").write_text("[")
    assert not continued_job(RunConfig.from_argv(["--output-dir", str(tmp_path)]))
    assert not continued_job(RunConfig.from_argv([]))
