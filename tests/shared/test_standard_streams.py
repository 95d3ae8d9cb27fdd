"""A program whose standard streams are closed writes nowhere, and into no file of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMPLETE = """
import os, sys
from shared import standard_streams
standard_streams.prepare()
file = open(sys.argv[1], "w")
print("said"); sys.stderr.write("complained"); os.write(1, b"by a library"); os.write(2, b"by another")
assert file.fileno() > 2, file.fileno()
file.write("content")
sys.exit(len(sys.stdin.read()))
"""


@pytest.mark.parametrize("closed", [[], [0], [1], [2], [0, 1, 2]])
def test_what_is_closed_leads_nowhere(closed, tmp_path):
    shell = "exec \"$@\" " + " ".join(f"{number}>&-" for number in closed)
    done = subprocess.run(
        ["bash", "-c", shell, "-", sys.executable, "-c", COMPLETE, str(tmp_path / "file")], cwd=str(ROOT),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60,
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "file").read_text() == "content"
    assert (b"said" in done.stdout) == (1 not in closed)
    assert (b"complained" in done.stderr) == (2 not in closed)


@pytest.mark.parametrize(
    "command", [["-m", "shared.results"], ["tf_seresnet/main.py", "summary"], ["tf_seresnet/main.py", "--help"],
                ["torch_imagenet/main.py", "--version"]],
)  # fmt: skip
def test_the_command_lines_need_no_standard_output(command):
    shell = ["bash", "-c", "exec \"$@\" >&-", "-", sys.executable]
    done = subprocess.run([*shell, *command], cwd=str(ROOT), stderr=subprocess.PIPE, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
