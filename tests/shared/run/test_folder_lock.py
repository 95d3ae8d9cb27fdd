"""Two processes never write runs into one folder; a lock ends with its process, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from shared.errors import UsageError
from shared.run.folder import locked, refuse_taken, run_folder
from shared.run.log import RunLog

pytest.importorskip("fcntl")
ROOT = Path(__file__).resolve().parents[3]
HOLDER = """
import os, sys, time
from pathlib import Path
from shared.run.folder import locked
lock = locked(Path(sys.argv[1]))
lock.__enter__()
if os.fork() == 0:  # as a data worker, which may live longer
    time.sleep(60)
print("held", flush=True)
time.sleep(60)
"""


def enter(folder):
    with locked(folder):
        pass


@pytest.fixture
def holder(tmp_path):
    """A process that writes into the folder, with a child."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        stdout=subprocess.PIPE,
        universal_newlines=True,
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
        start_new_session=True,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()


@pytest.mark.parametrize("start", [enter, refuse_taken, RunLog, lambda folder: run_folder(str(folder), "name")])
def test_a_folder_that_a_run_writes_into_is_refused_with_who_it_is(start, holder, tmp_path):
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UsageError, match=f"process {holder.pid} on .* is writing a run into .*; wait for its end"):
        start(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_lock_ends_with_its_process_though_its_children_live(holder, tmp_path):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    refuse_taken(tmp_path)
    enter(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_next_run_of_the_same_process_has_the_folder(tmp_path):
    for _ in range(2):
        with RunLog(tmp_path):
            assert (tmp_path / ".lock").exists()
        assert not (tmp_path / ".lock").exists()


def test_a_log_that_cannot_be_opened_leaves_no_lock(tmp_path):
    (tmp_path / "train.log").mkdir()
    with pytest.raises(UsageError, match="cannot write .*train.log"):
        RunLog(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["train.log"]


def test_a_folder_that_takes_no_file_is_not_locked(tmp_path):
    enter(tmp_path / "not there")
