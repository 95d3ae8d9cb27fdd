"""Every command of the READMEs: which test runs it, with what added to make it small, and how it then ends."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Dict, NamedTuple, Tuple

ROOT = Path(__file__).resolve().parents[2]


class Small(NamedTuple):
    """What is added to a command, and its exit status. An added option wins over the same one before it."""

    added: str = ""
    status: int = 0


_STEP = "--batch-size 4 --max-steps 1"
_PAPER = f"--variant paper --depth 8 {_STEP}"
_PIXELS = f"--image-size 32 --workers 1 {_STEP}"

# In the order in which they run; runs/NAME is the run of the first one that names it as its output.
TENSORFLOW: Dict[str, Small] = {
    "bash run_gpu.sh": Small(_PAPER),
    "bash run_gpu.sh --data-path DIR": Small(f"{_PAPER} --recipe sample --output-dir runs/NAME"),
    "bash run_gpu.sh --data-path DIR --depth 11 --epochs 1": Small(_STEP),
    "bash eval.sh --checkpoint runs/NAME": Small("--max-steps 1"),
    "bash run_gpu.sh --resume runs/NAME": Small("--max-steps 2"),
    "bash run_gpu.sh predict --checkpoint runs/NAME DIR": Small(),
    "bash run_npu.sh --data-path DIR": Small(status=2),  # where no adapter is
    "bash tf_seresnet/test/train_performance_1p.sh --data_path=DIR --device=cpu": Small(f"{_PAPER} --output-dir perf"),
    "python -m shared.results runs/NAME --format html --output page.html": Small(),
    "python -m shared.results --update-readme README.md README.zh-CN.md": Small(),
}
TORCH: Dict[str, Small] = {
    "python torch_imagenet/main.py": Small(_PIXELS),
    "python torch_imagenet/main.py --network senet154 --data-path DIR --device cuda:0": Small(
        f"{_PIXELS} --network se_resnet50 --device cpu --learning-rate 1e-5 --output-dir runs/NAME"
    ),
    "python torch_imagenet/main.py --help": Small(),
    "python torch_imagenet/main.py evaluate --checkpoint FILE --network senet154 --data-path DIR": Small(
        "--network se_resnet50 --image-size 32 --workers 1 --device cpu"
    ),
    "python torch_imagenet/main.py predict --checkpoint runs/NAME DIR": Small("--workers 1 --device cpu"),
    "python torch_imagenet/main.py --resume runs/NAME": Small("--max-steps 2 --workers 1"),
    "python torch_imagenet/main.py --data-path DIR --device npu:0": Small(status=2),  # where no torch_npu is
    "python torch_imagenet/main.py --data-path DIR --num-devices 2": Small(f"{_PIXELS} --device cpu"),
    "python torch_imagenet/main.py check-data --data-path DIR": Small("--workers 1"),
    "python torch_imagenet/main.py check-port --device npu:0": Small(status=2),  # likewise
}
# What needs the network or is run with stand-ins for its programs: the file of its tests, and one of them.
ELSEWHERE: Dict[str, Tuple[str, str]] = {
    "python -m pip install -r requirements/torch.txt": (
        "tests/end_to_end/test_requirements.py",
        "test_every_pin_has_hashes_in_the_form_that_the_script_writes",
    ),
    "bash tests/run.sh": ("tests/end_to_end/test_scripts.py", "test_all_passed"),
}


def run(command: str, small: Small, folder: Path, data: Path) -> Tuple[int, str]:
    """The exit status and the output of the command in this folder, with DIR, FILE and what is added filled in."""
    words = [word.replace("DIR", str(data)).replace("FILE", "runs/NAME/model.pth") for word in shlex.split(command)]
    program = words[1] if words[1] == "-m" else str(ROOT / words[1])
    start = [sys.executable if words[0] == "python" else words[0], program, *words[2:], *small.added.split()]
    environment = dict(os.environ, PYTHON=sys.executable, PYTHONPATH=str(ROOT), KIT_CACHE=str(folder / "cache"))
    done = subprocess.run(
        start,
        cwd=str(folder),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=300,
        universal_newlines=True,
        check=False,
    )
    return done.returncode, done.stdout
