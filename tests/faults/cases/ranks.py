"""Runs of several processes or replicas that are ended at any moment continue exactly, bit for bit."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Callable, List, Tuple
from unittest import mock

from tests.faults import power_cut
from tests.faults.case import TF, TORCH, Case
from tests.faults.cases.crash import a_power_cut, a_signal, differences, outcome, unreadable
from tests.faults.commands import advised_options
from tests.faults.process_tree import Job
from tests.faults.trainings import SAVING

_DRIVER = str(Path(__file__).parents[1] / "ranked_training.py")
_RANKS = ["--distributed", "--num-devices", "2", "--workers", "1"]
_FRESH = (
    "--recipe se_resnet50_1p --image-size 32 --batch-size 2 --epochs 3 --warm-up-epochs 1 --dropout 0.3 --drop-path 0.3"
).split()
_REPLICAS = ("--distributed", "--num-devices", "2")


def ranks_end(strike: Callable[[Job, random.Random], None], folder: Path, rng: random.Random) -> str:
    """Two ranks end at a random moment; after all processes have ended, the run is continued."""
    reference, seconds = _undisturbed()
    run = folder / "disk" / "run"
    run.parent.mkdir()
    moment = rng.uniform(0, seconds)
    job = _start(folder, *_new_run(), "--output-dir", str(run))
    _wait_for_events(job, run)
    time.sleep(moment)
    strike(job, rng)
    job.wait()
    remaining = job.kill_remaining(60.0)
    if remaining:
        return f"{len(remaining)} processes still ran a minute after {moment:.2f} seconds"
    if strike is _power_cut and (folder / "shadow").is_dir():
        power_cut.cut(run.parent, folder / "shadow", rng)
    failure = unreadable(run)
    if failure:
        return f"after {moment:.2f} seconds: {failure}"
    if list(run.glob("checkpoints/step-*")):
        options = [*SAVING, *_RANKS, "--resume", str(run)]
    else:  # before the first checkpoint: repeat the command
        shutil.rmtree(str(run), ignore_errors=True)
        options = [*_new_run(), "--output-dir", str(run)]
    shutil.rmtree(str(folder / "shadow"), ignore_errors=True)
    job = _start(folder, *options)
    if job.wait():
        return f"after {moment:.2f} seconds: the continuation has failed: {job.output[-400:]}"
    failure = differences(outcome(run), outcome(reference))
    return f"after {moment:.2f} seconds: {failure}" if failure else ""


def no_memory(folder: Path, rng: random.Random) -> str:
    """One of two ranks runs out of memory: both end, one error line says what fits, and that batch size trains."""
    limit, run = rng.randint(1, 5), folder / "run"
    with mock.patch.dict(os.environ, FAULTS_MEMORY=f"{rng.randint(0, 1)},{limit}"):
        job = _start(folder, *_new_run(), "--batch-size", "6", "--output-dir", str(run))
        status, remaining = job.wait(), job.kill_remaining(60.0)
        errors = [line for line in job.output.splitlines() if line.startswith("error: ")]
        if status != 2 or len(errors) != 1 or " fits (tried just now)" not in errors[0] or "Traceback" in job.output:
            return f"memory for {limit}: status {status}, {job.output[-600:]!r}"
        if remaining:
            return f"memory for {limit}: {len(remaining)} processes remain"
        advice = advised_options(errors[0])
        (folder / "again").mkdir()
        job = _start(folder / "again", *_new_run(), *advice, "--output-dir", str(folder / "again" / "run"))
        return f"memory for {limit}: {advice} ended with {job.output[-400:]}" if job.wait() else ""


def _one_rank(job: Job, rng: random.Random) -> None:
    ranks = [process for process in job.processes() if process != job.process.pid and _is_rank(process)]
    if ranks:
        os.kill(rng.choice(ranks), signal.SIGKILL)


def _launcher(job: Job, rng: random.Random) -> None:
    if job.process.poll() is None:
        os.kill(job.process.pid, signal.SIGKILL)


def _sigterm(job: Job, rng: random.Random) -> None:
    if job.process.poll() is None:
        os.kill(job.process.pid, signal.SIGTERM)


def _power_cut(job: Job, rng: random.Random) -> None:
    for process in job.processes():
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def _is_rank(process: int) -> bool:
    """Whether a process is a rank and not one of its data workers, which have the same command line."""
    try:
        environment = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
        parent = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1]
        parent_environment = Path(f"/proc/{parent}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
    return any(line.startswith(b"RANK=") for line in environment) and not any(
        line.startswith(b"RANK=") for line in parent_environment
    )


def _new_run() -> List[str]:
    from tests.faults.commands import tiny_images

    return [*_FRESH, *SAVING, *_RANKS, "--data-path", str(tiny_images())]


def _start(folder: Path, *options: str) -> Job:
    settings = {"FAULTS_ROOT": str(folder / "disk"), "FAULTS_SHADOW": str(folder / "shadow")}
    with mock.patch.dict(os.environ, settings):
        return Job([sys.executable, _DRIVER, "train", *options], folder)


def _wait_for_events(job: Job, run: Path) -> None:
    events, end = run / "events.jsonl", time.monotonic() + 240
    while not (events.exists() and events.stat().st_size) and job.process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)


@functools.lru_cache(maxsize=None)
def _undisturbed() -> Tuple[Path, float]:
    """The run without a fault, and the seconds from its first step to its end."""
    folder = Path(tempfile.mkdtemp(prefix="faults-ranks-"))
    atexit.register(shutil.rmtree, str(folder), ignore_errors=True)
    run = folder / "disk" / "run"
    run.parent.mkdir()
    job = _start(folder, *_new_run(), "--output-dir", str(run))
    _wait_for_events(job, run)
    began = time.monotonic()
    assert job.wait() == 0, job.output
    return run, time.monotonic() - began


def _ranks(name: str, strike: Callable[[Job, random.Random], None], rounds: int = 50) -> Case:
    return Case(name, TORCH, functools.partial(ranks_end, strike), rounds=rounds, quick=False)


def _replicas(name: str, end: Callable[..., str], *number: int) -> Case:
    return Case(name, TF, functools.partial(end, TF, *number, more=_REPLICAS), rounds=50, quick=False)


# None is quick: pytest has test_faults.py and test_replicas.py of the halves instead.
CASES = [
    _ranks("two ranks, SIGKILL of one at any moment", _one_rank),
    _ranks("two ranks, SIGKILL of their launcher at any moment", _launcher, rounds=20),
    _ranks("two ranks, SIGTERM at any moment", _sigterm),
    _ranks("two ranks, power cut at any moment", _power_cut),
    Case("two ranks, one without memory", TORCH, no_memory, rounds=6, quick=False),
    _replicas("two replicas, SIGKILL at any moment", a_signal, signal.SIGKILL),
    _replicas("two replicas, SIGTERM at any moment", a_signal, signal.SIGTERM),
    _replicas("two replicas, power cut at any moment", a_power_cut),
]
