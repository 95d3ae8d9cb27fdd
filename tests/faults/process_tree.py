"""Commands whose processes can all be found afterwards, whatever their parents are."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Callable, List, Sequence

ROOT = Path(__file__).resolve().parents[2]
TORCH_DRIVER = str(ROOT / "tests" / "torch_imagenet" / "distributed" / "driver.py")
_MARK = "KIT_FAULT"
TIMEOUT = 120.0


class Job:
    """A command started in its own session, as by a terminal; `with` kills all remaining processes at the end."""

    def __init__(self, command: Sequence[str], folder: Path) -> None:
        self._log = folder / "output"
        self._mark = uuid.uuid4().hex
        settings = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", _MARK: self._mark}
        with self._log.open("wb") as out:
            self.process = subprocess.Popen(
                list(command),
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=settings,
                cwd=str(folder),
                start_new_session=True,
                preexec_fn=_restore_sighup,
            )

    def __enter__(self) -> Job:
        return self

    def __exit__(self, *error: object) -> None:
        self.kill_remaining(0)

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def wait_for(self, text: str) -> None:
        """Wait until this text is printed. Raises AssertionError if the job ends before."""
        self._until(lambda: text in self.output, f"{text!r} is not printed")

    def wait_for_processes(self, number: int) -> List[int]:
        """Wait until the job has this many processes, and return them."""
        self._until(lambda: len(self.processes()) >= number, f"{number} processes are not there")
        return self.processes()

    def _until(self, there: Callable[[], bool], otherwise: str) -> None:
        end = time.monotonic() + TIMEOUT
        while not there():
            if self.process.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"{otherwise}: {self.output[-500:]}")
            time.sleep(0.05)

    def signal_group(self, number: int) -> None:
        """Send a signal to the process group, as a terminal does at Ctrl-C."""
        os.killpg(self.process.pid, number)

    def wait(self) -> int:
        """Wait for the first process. Returns its exit status."""
        return self.process.wait(TIMEOUT)

    def processes(self) -> List[int]:
        """The running processes of the job, whatever their parents are."""
        mark = f"{_MARK}={self._mark}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:
                pass
        return found

    def kill_remaining(self, seconds: float) -> List[int]:
        """Kill the processes that still run after this many seconds, and return them."""
        end = time.monotonic() + seconds
        while self.processes() and time.monotonic() < end:
            time.sleep(0.1)
        remaining = self.processes()
        for process in remaining:
            os.kill(process, signal.SIGKILL)
        return remaining


def _restore_sighup() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup ignores it, which child processes inherit


def torch_training(folder: Path, data: Path, *options: str) -> Job:
    """A training of a network of 3,000 weights that runs until it is stopped."""
    command = [
        sys.executable,
        TORCH_DRIVER,
        "train",
        "--recipe",
        "se_resnet50_1p",
        "--image-size",
        "32",
        "--batch-size",
        "2",
        "--device",
        "cpu",
        "--warm-up-epochs",
        "1",
        "--print-freq",
        "1",
        "--epochs",
        "5000",
        "--data-path",
        str(data),
        "--output-dir",
        str(folder / "run"),
        *options,
    ]
    return Job(command, folder)


def tf_training(folder: Path, *options: str) -> Job:
    """The same for the CIFAR half."""
    command = [
        sys.executable,
        str(ROOT / "tf_seresnet" / "main.py"),
        "train",
        "--recipe",
        "sample",
        "--depth",
        "11",
        "--batch-size",
        "8",
        "--device",
        "cpu",
        "--print-freq",
        "1",
        "--epochs",
        "5000",
        "--output-dir",
        str(folder / "run"),
        *options,
    ]
    return Job(command, folder)
