"""A Python that is too old or has no NumPy: one line and status 2 from every file that a user starts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from shared.cli.interpreter import unfit

ROOT = Path(__file__).resolve().parents[3]
STARTED = {
    "torch_imagenet/main.py": "requirements/torch.txt",
    "torch_imagenet/imagenet_fast.py": "requirements/torch.txt",
    "tf_seresnet/main.py": "requirements/cpu.txt",
    "tf_seresnet/run_gpu.py": "requirements/cpu.txt",
    "tf_seresnet/eval.py": "requirements/cpu.txt",
    "benchmarks/accuracy.py": "requirements/torch.txt",
    "-mshared.results": "pip install numpy",
}


OF_PYTHON_39 = ("torch_imagenet/main.py", "torch_imagenet/imagenet_fast.py", "benchmarks/accuracy.py")


@pytest.mark.parametrize("file", [each for each in STARTED if sys.version_info >= (3, 9) or each not in OF_PYTHON_39])
def test_without_numpy_it_is_one_line(file):
    for options in ([], ["--help"]):
        command = [sys.executable, "-S", file, *options]  # -S: without site-packages
        ended = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert ended.returncode == 2, ended.stderr
        assert ended.stdout == ""
        (line,) = ended.stderr.splitlines()
        assert line.startswith(f"error: {sys.executable} has no numpy; ")
        assert STARTED[file] in line


def test_this_python_is_fit(capsys):
    assert not unfit(sys.version_info[:2], "")
    assert capsys.readouterr() == ("", "")


def test_an_older_one_is_named_with_what_is_needed(capsys):
    major, minor = sys.version_info[:2]
    assert unfit((major, minor + 1), "")
    line = f"error: {sys.executable} is Python {major}.{minor}; use {major}.{minor + 1} or newer\n"
    assert capsys.readouterr() == ("", line)
