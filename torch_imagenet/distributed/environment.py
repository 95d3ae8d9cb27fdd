"""The rank of this process, from the environment of torchrun, Slurm or the Kubernetes training operator; its job."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Mapping, Optional

from shared.checkpoint.folder import newest
from shared.errors import UsageError
from torch_imagenet.options import RunConfig

# Slurm sets no port. One that depends on the job keeps two jobs on one machine apart.
_FIRST_PORT, _PORTS = 20000, 20000


@dataclass(frozen=True)
class ProcessEnvironment:
    """`rank` among all `size` processes, and `local_rank` among the `local_size` of this machine."""

    rank: int
    size: int
    local_rank: int
    local_size: int
    variables: Mapping[str, str]  # of torch's `env://` rendezvous


def process_environment(config: RunConfig, environment: Mapping[str, str] = os.environ) -> Optional[ProcessEnvironment]:
    """Rank and world size from the environment; None where this process was started alone.

    torchrun sets RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE; the Kubernetes training operator, with one process
    per pod, may leave out the last two. Slurm's variables are used with --distributed in a job step. Raises UsageError
    where the variables are inconsistent, or the rendezvous lacks one.
    """
    passed = config.local_rank
    if config.port is not None and passed is not None and "RANK" not in environment:
        environment = {**environment, **_from_old_script(config, passed)}
    elif passed is not None and environment.get("LOCAL_RANK") != str(passed):
        raise UsageError(
            f"--local-rank {passed} is what torch.distributed.launch passes, together with LOCAL_RANK, which is"
            f" {environment.get('LOCAL_RANK', 'not set')}; start the processes with torchrun, and leave it out"
        )
    if "RANK" in environment and "WORLD_SIZE" in environment:
        found = {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", **environment}
    elif config.distributed and "SLURM_STEP_ID" in environment and environment.get("SLURM_STEP_NUM_TASKS") != "1":
        found = _from_slurm(environment)
    else:
        return None
    rank, size, local_rank, local_size = (
        _number(found, name) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    )
    for what, number, limit in (("rank", rank, size), ("local rank", local_rank, local_size)):
        if number >= limit:
            raise UsageError(f"{what} {number} of {limit} is impossible; check RANK, WORLD_SIZE and LOCAL_RANK")
    variables = {name: found.get(name, "") for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")}
    missing = [name for name, value in variables.items() if not value]
    if size > 1 and missing:
        raise UsageError(f"{missing[0]} is not set, so the processes cannot find each other; start them with torchrun")
    if (config.nnodes or 1) > 1 and config.num_devices:
        # Started by `launch`: --node-rank orders the machines, so that rank 0, which writes, is on the first one.
        # torch's launcher orders them by address.
        rank = (config.node_rank or 0) * config.num_devices + local_rank
    return ProcessEnvironment(rank, size, local_rank, local_size, variables)


def _from_old_script(config: RunConfig, local_rank: int) -> Dict[str, str]:
    """The variables that torchrun sets, for a process that an old port's script has started for one of the devices."""
    devices, nodes = config.num_devices or 1, config.nnodes or 1
    address = config.master_addr or ("127.0.0.1" if nodes == 1 else "")
    return {
        "RANK": str((config.node_rank or 0) * devices + local_rank),
        "WORLD_SIZE": str(devices * nodes),
        "LOCAL_RANK": str(local_rank),
        "LOCAL_WORLD_SIZE": str(devices),
        "MASTER_ADDR": address,
        "MASTER_PORT": str(config.master_port or ""),
    }


def _from_slurm(environment: Mapping[str, str]) -> Dict[str, str]:
    """The variables that torchrun sets. Of tasks per node such as "8(x2),4" it takes the first number."""
    port = _FIRST_PORT + _number({"SLURM_JOB_ID": "0", **environment}, "SLURM_JOB_ID") % _PORTS
    return {
        "RANK": environment.get("SLURM_PROCID", ""),
        "WORLD_SIZE": environment.get("SLURM_STEP_NUM_TASKS", ""),
        "LOCAL_RANK": environment.get("SLURM_LOCALID", ""),
        "LOCAL_WORLD_SIZE": re.split(r"\D", environment.get("SLURM_STEP_TASKS_PER_NODE", "1"))[0],
        "MASTER_ADDR": environment.get("MASTER_ADDR") or first_host(environment.get("SLURM_STEP_NODELIST", "")),
        "MASTER_PORT": environment.get("MASTER_PORT") or str(port),
    }


def first_host(nodes: str) -> str:
    """The first host of a Slurm node list: "node03" of "node[03-07,11],other2"."""
    match = re.match(r"([^\[,]+)(?:\[(\d+)[^\]]*\]([^,\[]*))?", nodes)
    return "".join(part or "" for part in match.groups()) if match else ""


def _number(variables: Mapping[str, str], name: str) -> int:
    if not variables[name].isdigit():
        raise UsageError(
            f"{name} is {variables[name]!r} in the environment, not a number; start the processes with torchrun"
        )
    return int(variables[name])


# -- the job, by which a restarted process recognises the run to continue --------------------------------------

JOB = "KIT_JOB"  # set by the launcher or the user; equal for all processes of a job, including restarted ones
_SLURM = "slurm-"


def job_name() -> Optional[str]:
    """The identifier of the job, equal for restarted processes; None outside a job."""
    name = os.environ.get(JOB) or os.environ.get("TORCHELASTIC_RUN_ID", "none")
    if name == "none" and "SLURM_STEP_ID" in os.environ:
        return _SLURM + os.environ.get("SLURM_JOB_ID", "")
    return None if name == "none" else name


def continued_job(config: RunConfig) -> bool:
    """Whether this process was restarted after a failure and its run has a checkpoint to resume from."""
    job = job_name()
    if job is None or config.output_dir is None:
        return False
    if job.startswith(_SLURM) and not os.environ.get("SLURM_RESTART_COUNT", "0").strip("0"):
        return False  # another command in the same allocation, not a requeued job
    folder = Path(config.output_dir)
    try:
        earlier = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("job")
    except (OSError, ValueError, AttributeError):
        return False
    return earlier == job and newest(folder) is not None
