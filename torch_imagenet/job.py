"""The job that a process belongs to: what a process that is started again after a failure knows its run by."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Optional

JOB = "KIT_JOB"  # set by our launcher, the same for all processes of a job, restarted ones too


def continued_job(options: Any) -> bool:
    """Whether this process was started again after a failure, and its run has a checkpoint to go on from."""
    job = job_name()
    if job is None or not options.output_dir:
        return False
    folder = Path(options.output_dir)
    try:
        earlier = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("job")
    except (OSError, ValueError, AttributeError):
        return False
    return earlier == job and (folder / "checkpoints" / "last").exists()


def job_name() -> Optional[str]:
    """What all processes of this job share, restarted ones too; None outside a job."""
    name = os.environ.get(JOB) or os.environ.get("TORCHELASTIC_RUN_ID")
    return None if name in (None, "none") else name
