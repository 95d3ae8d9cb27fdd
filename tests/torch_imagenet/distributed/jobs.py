"""Runs of several processes on the CPU, for the tests of them: start, wait for a line, signal, read the outcome."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import torch

from tests.torch_imagenet.distributed.forked import MODULE, Started

ROOT = Path(__file__).resolve().parents[3]
DRIVER = str(ROOT / "tests" / "torch_imagenet" / "distributed" / "driver.py")
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]
SHORT = ("--recipe se_resnet50_1p --image-size 32 --device cpu --warm-up-epochs 1 --print-freq 1 --workers 1").split()
PATIENCE = 240  # seconds; a machine that does ten things at once is slow, and a deadlock must end some time


class Job:
    """A command line that has been started; `text` is what it has printed to standard output and error so far.

    The driver is forked from a process that has imported torch, unless `real` asks for one from scratch. `namespace`
    is the network namespace that it is in.
    """

    def __init__(
        self, words: Sequence[str], log: Path, namespace: str = "", real: bool = False, **environment: str
    ) -> None:
        self._log = log
        settings = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", **environment}
        self.process: Any = None
        if words[0] == DRIVER and not real:
            self.process = Started(words[1:], log, settings, namespace)
            return
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, *words],
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=settings,
                cwd=log.parent,
            )

    @property
    def text(self) -> str:
        return self._log.read_text(errors="replace")

    def wait_for(self, text: str) -> None:
        """Until this has been printed; fails where the job ends before."""
        end = time.monotonic() + PATIENCE
        while text not in self.text:
            assert self.process.poll() is None, self.text
            assert time.monotonic() < end, self.text
            time.sleep(0.05)

    def ranks(self) -> List[int]:
        """The process numbers of the ranks that run now, in the order in which they were started."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(pid) for pid in children if _is_rank(int(pid))]

    def end(self) -> int:
        """Wait; the exit status."""
        try:
            return self.process.wait(PATIENCE)
        finally:
            self.process.kill()


def _is_rank(pid: int) -> bool:
    try:
        line = Path(f"/proc/{pid}/cmdline").read_bytes()
        return b"--num-devices" in line or MODULE.encode() in line
    except OSError:
        return False


def train(
    folder: Path, data: Path, *options: str, status: Optional[int] = 0, real: bool = False, **settings: str
) -> Job:
    """`train` on `data` into `folder`, ended; `status` None leaves it running."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    words = [DRIVER, "train", *SHORT, "--data-path", str(data), "--output-dir", str(folder), *options]
    job = Job(words, folder.parent / f"{folder.name}.out", real=real, **settings)
    if status is not None:
        assert job.end() == status, job.text
    return job


def weights(folder: Path) -> Dict[str, Any]:
    """The last checkpoint's tensors."""
    return torch.load(folder / "checkpoints" / "last" / "training.pth", weights_only=True)


def same_bits(one: Any, other: Any) -> bool:
    """Whether two checkpoints' contents are equal."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same_bits(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same_bits, one, other))
    return bool(one == other)


def record(folder: Path) -> Dict[str, Any]:
    """result.json."""
    return json.loads((folder / "result.json").read_text())


def losses(folder: Path) -> List[float]:
    """The mean loss of each step that was logged."""
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    return [event["step_loss"] for event in events if event["event"] == "step"]
