"""Command lines in processes of their own, every process of which can be found afterwards, whoever its parent is."""

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
_PATIENCE = 120.0


class Job:
    """A command that has been started in a session of its own, as a terminal starts it; `with` ends what is left."""

    def __init__(self, words: Sequence[str], folder: Path) -> None:
        self._log = folder / "said"
        self._mark = uuid.uuid4().hex
        settings = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", _MARK: self._mark}
        with self._log.open("wb") as out:
            self.process = subprocess.Popen(
                list(words),
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=settings,
                cwd=str(folder),
                start_new_session=True,
                preexec_fn=_hear_of_the_terminal,
            )

    def __enter__(self) -> Job:
        return self

    def __exit__(self, *error: object) -> None:
        self.left(0)

    @property
    def text(self) -> str:
        return self._log.read_text(errors="replace")

    def wait_for(self, text: str) -> None:
        """Until this has been printed. Raises AssertionError where the job ends before."""
        self._until(lambda: text in self.text, f"{text!r} is not printed")

    def wait_for_processes(self, number: int) -> List[int]:
        """All of the job's processes, as soon as there are so many."""
        self._until(lambda: len(self.living()) >= number, f"{number} processes are not there")
        return self.living()

    def _until(self, there: Callable[[], bool], otherwise: str) -> None:
        end = time.monotonic() + _PATIENCE
        while not there():
            if self.process.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"{otherwise}: {self.text[-500:]}")
            time.sleep(0.05)

    def to_all(self, number: int) -> None:
        """What a terminal does at Ctrl-C: the signal to each process of the foreground group."""
        os.killpg(self.process.pid, number)

    def end(self) -> int:
        """Wait for the first process; its exit status."""
        return self.process.wait(_PATIENCE)

    def living(self) -> List[int]:
        """Those of its processes that have not ended, wherever they have gone."""
        mark = f"{_MARK}={self._mark}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:
                pass
        return found

    def left(self, seconds: float) -> List[int]:
        """Those that are still there after so many seconds; they are ended."""
        end = time.monotonic() + seconds
        while self.living() and time.monotonic() < end:
            time.sleep(0.1)
        left = self.living()
        for process in left:
            os.kill(process, signal.SIGKILL)
        return left


def _hear_of_the_terminal() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored, in whatever is started too


def torch_training(folder: Path, data: Path, *options: str) -> Job:
    """A training of a network of 3,000 weights that does not end by itself."""
    words = [
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
    return Job(words, folder)


def tf_training(folder: Path, *options: str) -> Job:
    """The same of the other half."""
    words = [
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
    return Job(words, folder)
