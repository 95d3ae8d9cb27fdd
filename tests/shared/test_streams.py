"""A command line whose streams are closed, or encode little, says what it can and ends as it would."""
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import os, sys
sys.path.insert(0, sys.argv[1])
from shared import streams
streams.prepare()
print("±  caf\\udce9")
print("猫", file=sys.stderr)
sys.stdout.flush()
with open(sys.argv[2], "wb") as file:  # a closed stream's number is not for the next file
    assert file.fileno() > 2, file.fileno()
    os.system("echo of a child; echo of a child >&2")
    file.write(b"weights")
"""


def run(tmp_path, shell, **environment):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")
    command = f'"{sys.executable}" "{program}" "{ROOT}" "{tmp_path / "file"}" {shell}'
    return subprocess.run(
        ["bash", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(os.environ, **environment)
    )  # fmt: skip


@pytest.mark.parametrize("shell", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-", "<&-"])
def test_a_closed_stream_is_nowhere(tmp_path, shell):
    ended = run(tmp_path, shell, PYTHONUTF8="1")
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "file").read_bytes() == b"weights"


@pytest.mark.parametrize("environment", [
    {"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "ascii:strict"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
])  # fmt: skip
def test_a_stream_that_cannot_encode_gets_escapes(tmp_path, environment):
    ended = run(tmp_path, "", **environment)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith(b"\\xb1  caf\\udce9\n")
    assert ended.stderr.startswith(b"\\u732b\n")


@pytest.mark.parametrize("shell", [">&-", "2>&-", ">&- 2>&-"])
def test_the_results_and_a_mistake_where_nobody_listens(tmp_path, shell):
    for words, status in (("", 0), ("--formt text", 2)):
        command = f'cd "{ROOT}" && "{sys.executable}" -m shared.results {words} {shell}'
        ended = subprocess.run(["bash", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert (ended.returncode, b"Traceback" in ended.stderr) == (status, False)
