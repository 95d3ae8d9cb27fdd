"""Runs of several processes or replicas that end at any moment go on as if nothing had been, bit for bit."""

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
from tests.faults.commands import advised
from tests.faults.process_tree import Job
from tests.faults.trainings import SAVING

_DRIVER = str(Path(__file__).parents[1] / "ranked_training.py")
_RANKS = ["--distributed", "--num-devices", "2", "--workers", "1"]
_FRESH = (
    "--recipe se_resnet50_1p --image-size 32 --batch-size 2 --epochs 3 --warm-up-epochs 1 --dropout 0.3 --drop-path 0.3"
).split()
_REPLICAS = ("--distributed", "--num-devices", "2")


def ranks_end(strike: Callable[[Job, random.Random], None], folder: Path, random: random.Random) -> str:
    """Two ranks end at a random moment; when none is there any more the run is continued."""
    whole, seconds = _undisturbed()
    run = folder / "disk" / "run"
    run.parent.mkdir()
    moment = random.uniform(0, seconds)
    job = _started(folder, *_fresh(), "--output-dir", str(run))
    _wait_for_events(job, run)
    time.sleep(moment)
    strike(job, random)
    job.end()
    left = job.left(60.0)
    if left:
        return f"{len(left)} processes were still there a minute after {moment:.2f} seconds"
    if strike is _power_cut and (folder / "shadow").is_dir():
        power_cut.cut(run.parent, folder / "shadow", random)
    wrong = unreadable(run)
    if wrong:
        return f"after {moment:.2f} seconds: {wrong}"
    if list(run.glob("checkpoints/step-*")):
        words = [*SAVING, *_RANKS, "--resume", str(run)]
    else:  # before the first checkpoint; the same command starts the run again
        shutil.rmtree(str(run), ignore_errors=True)
        words = [*_fresh(), "--output-dir", str(run)]
    shutil.rmtree(str(folder / "shadow"), ignore_errors=True)
    job = _started(folder, *words)
    if job.end():
        return f"after {moment:.2f} seconds: the continuation has failed: {job.text[-400:]}"
    wrong = differences(outcome(run), outcome(whole))
    return f"after {moment:.2f} seconds: {wrong}" if wrong else ""


def no_memory(folder: Path, random: random.Random) -> str:
    """One of two ranks has no memory for its images: one line says what fits, nobody waits for it, and that trains."""
    limit, run = random.randint(1, 5), folder / "run"
    with mock.patch.dict(os.environ, FAULTS_MEMORY=f"{random.randint(0, 1)},{limit}"):
        job = _started(folder, *_fresh(), "--batch-size", "6", "--output-dir", str(run))
        status, left = job.end(), job.left(60.0)
        errors = [line for line in job.text.splitlines() if line.startswith("error: ")]
        if status != 2 or len(errors) != 1 or " fits (tried just now)" not in errors[0] or "Traceback" in job.text:
            return f"memory for {limit}: status {status}, {job.text[-600:]!r}"
        if left:
            return f"memory for {limit}: {len(left)} processes are left"
        advice = advised(errors[0])
        (folder / "again").mkdir()
        job = _started(folder / "again", *_fresh(), *advice, "--output-dir", str(folder / "again" / "run"))
        return f"memory for {limit}: {advice} ended with {job.text[-400:]}" if job.end() else ""


def _one_rank(job: Job, random: random.Random) -> None:
    ranks = [process for process in job.living() if process != job.process.pid and _is_rank(process)]
    if ranks:
        os.kill(random.choice(ranks), signal.SIGKILL)


def _launcher(job: Job, random: random.Random) -> None:
    if job.process.poll() is None:
        os.kill(job.process.pid, signal.SIGKILL)


def _asked(job: Job, random: random.Random) -> None:
    if job.process.poll() is None:
        os.kill(job.process.pid, signal.SIGTERM)


def _power_cut(job: Job, random: random.Random) -> None:
    for process in job.living():
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def _is_rank(process: int) -> bool:
    """Not one of the processes that read images: those are children of ranks and have their command line."""
    try:
        environment = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
        parent = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1]
        of_parent = Path(f"/proc/{parent}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
    return any(line.startswith(b"RANK=") for line in environment) and not any(
        line.startswith(b"RANK=") for line in of_parent
    )


def _fresh() -> List[str]:
    from tests.faults.commands import tiny_images

    return [*_FRESH, *SAVING, *_RANKS, "--data-path", str(tiny_images())]


def _started(folder: Path, *words: str) -> Job:
    settings = {"FAULTS_ROOT": str(folder / "disk"), "FAULTS_SHADOW": str(folder / "shadow")}
    with mock.patch.dict(os.environ, settings):
        return Job([sys.executable, _DRIVER, "train", *words], folder)


def _wait_for_events(job: Job, run: Path) -> None:
    events, end = run / "events.jsonl", time.monotonic() + 240
    while not (events.exists() and events.stat().st_size) and job.process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)


@functools.lru_cache(maxsize=None)
def _undisturbed() -> Tuple[Path, float]:
    """The run that nothing happened to, and the seconds from its first step to its end."""
    folder = Path(tempfile.mkdtemp(prefix="faults-ranks-"))
    atexit.register(shutil.rmtree, str(folder), ignore_errors=True)
    run = folder / "disk" / "run"
    run.parent.mkdir()
    job = _started(folder, *_fresh(), "--output-dir", str(run))
    _wait_for_events(job, run)
    began = time.monotonic()
    assert job.end() == 0, job.text
    return run, time.monotonic() - began


def _ranks(name: str, strike: Callable[[Job, random.Random], None], rounds: int = 50) -> Case:
    return Case(name, TORCH, functools.partial(ranks_end, strike), rounds=rounds, short=False)


def _replicas(name: str, end: Callable[..., str], *number: int) -> Case:
    return Case(name, TF, functools.partial(end, TF, *number, more=_REPLICAS), rounds=50, short=False)


# Not in the short form: test_faults.py and test_replicas.py of the halves are.
CASES = [
    _ranks("two ranks, SIGKILL of one at any moment", _one_rank),
    _ranks("two ranks, SIGKILL of their launcher at any moment", _launcher, rounds=20),
    _ranks("two ranks, SIGTERM at any moment", _asked),
    _ranks("two ranks, power cut at any moment", _power_cut),
    Case("two ranks, one without memory", TORCH, no_memory, rounds=6, short=False),
    _replicas("two replicas, SIGKILL at any moment", a_signal, signal.SIGKILL),
    _replicas("two replicas, SIGTERM at any moment", a_signal, signal.SIGTERM),
    _replicas("two replicas, power cut at any moment", a_power_cut),
]
