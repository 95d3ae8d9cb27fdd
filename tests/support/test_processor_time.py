"""The plugin that lists tests by processor time, on example tests with a limit of 0.05 seconds."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Sequence

import pytest

ROOT = Path(__file__).resolve().parents[2]

CONFTEST = """
from tests.support.processor_time import ProcessorTime

def pytest_configure(config):
    config.addinivalue_line("markers", "slow: as in the project")
    config.pluginmanager.register(ProcessorTime(limit=0.05))
"""
TESTS = """
import subprocess, sys, time
import pytest

WORK = "import time\\nwhile time.process_time() < 0.6: pass"

def work():
    end = time.process_time() + 0.6
    while time.process_time() < end:
        pass

@pytest.fixture(scope="module")
def shared():
    work()

def test_quick(): pass
def test_waits(): time.sleep(0.6)
def test_works(): work()
def test_waits_for_a_child(): subprocess.check_call([sys.executable, "-S", "-c", WORK])
def test_uses_the_fixture_first(shared): pass
def test_uses_the_fixture_again(shared): pass
@pytest.mark.slow
def test_says_so(): work()
"""


@pytest.mark.slow  # takes two seconds
@pytest.mark.parametrize("workers", [(), ("-n", "1")])
def test_what_is_over_the_limit_and_not_marked_is_listed(workers: Sequence[str], tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_some.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, *workers]
    ended = subprocess.run(
        [*command, "--rootdir", str(tmp_path), str(tmp_path)],
        stdout=subprocess.PIPE,
        universal_newlines=True,
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
    )
    assert ended.returncode == 0
    _, listed = ended.stdout.split("more than 0.05 s of processor time: make cheaper or mark slow")
    names = re.findall(r"^\d+\.\d s \S+::test_(\w+)$", listed, re.MULTILINE)
    assert sorted(names) == ["uses_the_fixture_first", "waits_for_a_child", "works"]
