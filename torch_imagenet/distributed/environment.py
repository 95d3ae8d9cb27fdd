"""The rank of this process, from the environment of torchrun, Slurm or the Kubernetes training operator."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from typing import Dict, Mapping, Optional

from shared.errors import UsageError
from torch_imagenet.options import RunConfig

# Slurm sets no port. One that depends on the job keeps two jobs on one machine apart.
_FIRST_PORT, _PORTS = 20000, 20000


@dataclass(frozen=True)
class ProcessEnvironment:
    """`rank` among all `size` processes, and `local_rank` among the `local_size` of this machine."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1


def process_environment(config: RunConfig, environment: Mapping[str, str] = os.environ) -> Optional[ProcessEnvironment]:
    """Rank and world size from the environment; None where this process was started alone.

    torchrun sets RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE; the Kubernetes training operator, with one process
    per pod, may leave out the last two. Slurm's variables are used with --distributed in a job step. Raises UsageError
    where the variables are inconsistent.
    """
    passed = config.local_rank
    if passed is not None and environment.get("LOCAL_RANK") != str(passed):
        raise UsageError(
            f"--local-rank {passed} is what torch.distributed.launch passes, together with LOCAL_RANK, which is"
            f" {environment.get('LOCAL_RANK', 'not set')}; start the processes with torchrun, and leave it out"
        )
    if "RANK" in environment and "WORLD_SIZE" in environment:
        process = ProcessEnvironment(
            _number(environment, "RANK"),
            _number(environment, "WORLD_SIZE"),
            _number(environment, "LOCAL_RANK", 0),
            _number(environment, "LOCAL_WORLD_SIZE", 1),
        )
    elif config.distributed and "SLURM_STEP_ID" in environment and environment.get("SLURM_STEP_NUM_TASKS") != "1":
        process = ProcessEnvironment(
            _number(environment, "SLURM_PROCID"),
            _number(environment, "SLURM_STEP_NUM_TASKS"),
            _number(environment, "SLURM_LOCALID"),
            _slurm_tasks_here(environment),
        )
    else:
        return None
    local = ("local rank", process.local_rank, process.local_size)
    for what, number, size in (("rank", process.rank, process.size), local):
        if number >= size:
            raise UsageError(f"{what} {number} of {size} is impossible; check RANK, WORLD_SIZE and LOCAL_RANK")
    if (config.nnodes or 1) > 1 and config.num_devices:
        # Started by `launch`: --node-rank orders the machines, so that rank 0, which writes, is on the first one.
        # torch's launcher orders them by address.
        return replace(process, rank=(config.node_rank or 0) * config.num_devices + process.local_rank)
    return process


def rendezvous_variables(environment: Mapping[str, str] = os.environ) -> Dict[str, str]:
    """The variables of torch's `env://` rendezvous. Raises UsageError where one is missing."""
    if "RANK" in environment:
        found = {name: environment.get(name, "") for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")}
    else:
        job = _number(environment, "SLURM_JOB_ID", 0)
        found = {
            "RANK": environment["SLURM_PROCID"],
            "WORLD_SIZE": environment["SLURM_STEP_NUM_TASKS"],
            "MASTER_ADDR": environment.get("MASTER_ADDR") or first_host(environment.get("SLURM_STEP_NODELIST", "")),
            "MASTER_PORT": environment.get("MASTER_PORT") or str(_FIRST_PORT + job % _PORTS),
        }
    for name, value in found.items():
        if not value:
            raise UsageError(f"{name} is not set, so the processes cannot find each other; start them with torchrun")
    return found


def first_host(nodes: str) -> str:
    """The first host of a Slurm node list: "node03" of "node[03-07,11],other2"."""
    match = re.match(r"([^\[,]+)(?:\[(\d+)[^\]]*\]([^,\[]*))?", nodes)
    return "".join(part or "" for part in match.groups()) if match else ""


def _slurm_tasks_here(environment: Mapping[str, str]) -> int:
    """The tasks of this step per node, from a text such as "8(x2),4"; the first number where nodes differ."""
    match = re.match(r"\d+", environment.get("SLURM_STEP_TASKS_PER_NODE", "1"))
    return int(match.group()) if match else 1


def _number(environment: Mapping[str, str], name: str, default: Optional[int] = None) -> int:
    text = environment.get(name)
    if text is None and default is not None:
        return default
    if text is None or not text.isdigit():
        raise UsageError(f"{name} is {text!r} in the environment, not a number; start the processes with torchrun")
    return int(text)
