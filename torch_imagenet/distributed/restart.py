"""Identifies the job of a process, by which a restarted process recognises the run to continue."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Optional

from shared.checkpoint.folder import newest
from torch_imagenet.options import RunConfig

JOB = "KIT_JOB"  # set by the launcher or the user; equal for all processes of a job, including restarted ones
_SLURM = "slurm-"


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


def job_name() -> Optional[str]:
    """The identifier of the job, equal for restarted processes; None outside a job."""
    name = os.environ.get(JOB) or os.environ.get("TORCHELASTIC_RUN_ID", "none")
    if name == "none" and "SLURM_STEP_ID" in os.environ:
        return _SLURM + os.environ.get("SLURM_JOB_ID", "")
    return None if name == "none" else name
