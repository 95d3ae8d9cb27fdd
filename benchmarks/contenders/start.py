"""From the command to the end of its second training step: a round is a new process, whose output is read for it.

The clock stops when the line of the second step comes; what would follow is ended. The peers' programs are
`originals_program.py` and `timms_program.py` beside this file.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import List

from benchmarks.contender import Contender, Options
from shared import sample

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PEER_STEP = re.compile("step 2$")  # as the programs here print it


def cifar10(options: Options) -> Contender:
    """`python tf_seresnet/main.py`, a new run."""
    words = [f"--depth={options['depth']}", f"--batch-size={options['batch']}", "--max-steps=2", "--print-freq=1"]
    command = [str(ROOT / "tf_seresnet" / "main.py"), "--recipe=se_resnet110_gpu", *words]
    command += [f"--device={options['device']}", f"--data-path={sample.cifar10_folder()}"]
    return _contender(command, re.compile(r"step:\s*2\b"), "python tf_seresnet/main.py", output=True)


def original(options: Options) -> Contender:
    """The original's loop."""
    words = [str(options["depth"]), str(options["batch"]), options["device"]]
    return _contender([str(HERE / "originals_program.py"), *words], PEER_STEP, "the original's loop")


def imagenet(options: Options) -> Contender:
    """`python torch_imagenet/main.py`, a new run."""
    words = [f"--network={options['network']}", f"--batch-size={options['batch']}", f"--image-size={options['size']}"]
    words += [f"--workers={options['workers']}", f"--data-path={options['data']}", f"--device={options['device']}"]
    command = [str(ROOT / "torch_imagenet" / "main.py"), *words, "--max-steps=2", "--print-freq=1"]
    return _contender(command, re.compile(r"^Epoch: \[0\]\[ *1/"), "python torch_imagenet/main.py", output=True)


def timm(options: Options) -> Contender:
    """timm's train.py."""
    words = [options["network"], options["data"], *(str(options[name]) for name in ("batch", "size", "workers"))]
    what = "timm's train.py, rebuilt from its functions"
    return _contender([str(HERE / "timms_program.py"), *words, options["device"]], PEER_STEP, what)


def _contender(command: List[str], second_step: re.Pattern[str], what: str, output: bool = False) -> Contender:
    def run(attempt: int) -> int:
        with tempfile.TemporaryDirectory(prefix="benchmark-start-") as folder:
            where = [f"--output-dir={folder}/run"] if output else []
            _wait_for([sys.executable, *command, *where], second_step)
        return 1

    return Contender(run, what)


def _wait_for(command: List[str], second_step: re.Pattern[str]) -> None:
    """Raises RuntimeError where the program ends without its second step, with its last line."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        errors="replace",
        env=environment,
        start_new_session=True,
    )
    last = "no output"
    try:
        for line in process.stdout or ():
            if second_step.search(line.strip()):
                return
            last = line.strip() or last
        raise RuntimeError(f"{Path(command[1]).name} ended without a second step: {last}")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
