"""Closed standard streams lead nowhere, into no file either; those that encode little get escapes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
COMPLETE = """
import os, sys
from shared.cli.entry_point import prepare_streams
prepare_streams()
file = open(sys.argv[1], "w")
print("said"); sys.stderr.write("complained"); os.write(1, b"by a library"); os.write(2, b"by another")
assert file.fileno() > 2, file.fileno()
file.write("content")
sys.exit(len(sys.stdin.read()))
"""


@pytest.mark.parametrize("closed", [[], [0], [1], [2], [0, 1, 2]])
def test_what_is_closed_leads_nowhere(closed, tmp_path):
    shell = 'exec "$@" ' + " ".join(f"{number}>&-" for number in closed)
    done = subprocess.run(
        ["bash", "-c", shell, "-", sys.executable, "-c", COMPLETE, str(tmp_path / "file")],
        cwd=str(ROOT),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        timeout=60,
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "file").read_text() == "content"
    assert (b"said" in done.stdout) == (1 not in closed)
    assert (b"complained" in done.stderr) == (2 not in closed)


of_python_39 = pytest.mark.skipif(sys.version_info < (3, 9), reason="the ImageNet half needs Python 3.9")


@pytest.mark.parametrize(
    "command",
    [
        ["-m", "shared.results"],
        ["tf_seresnet/main.py", "summary"],
        ["tf_seresnet/main.py", "--help"],
        pytest.param(["torch_imagenet/main.py", "--version"], marks=of_python_39),
    ],
)
def test_the_command_lines_need_no_standard_output(command):
    shell = ["bash", "-c", 'exec "$@" >&-', "-", sys.executable]
    done = subprocess.run([*shell, *command], cwd=str(ROOT), stderr=subprocess.PIPE, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")


ESCAPES = """
import sys
from shared.cli.entry_point import prepare_streams
prepare_streams()
print("\\xb1 caf\\udce9")
print("\\u732b", file=sys.stderr)
"""


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "ascii:strict"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
)
def test_a_stream_that_cannot_encode_gets_escapes(environment):
    done = subprocess.run(
        [sys.executable, "-c", ESCAPES],
        cwd=str(ROOT),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        timeout=60,
        env=dict(os.environ, PYTHONPATH=str(ROOT), **environment),
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"\\xb1 caf\\udce9\n", b"\\u732b\n")
