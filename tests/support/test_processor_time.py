"""The plugin that limits the processor time of tests, on example tests with a limit of 0.05 seconds."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import processor_time

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
def test_a_test_over_the_limit_fails_with_advice(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_some.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-rA", "-p", "no:xdist", "-p", "no:cacheprovider", "-c", os.devnull]
    output = subprocess.run(
        [*command, "--rootdir", str(tmp_path), str(tmp_path)],
        stdout=subprocess.PIPE,
        universal_newlines=True,
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
    ).stdout
    outcomes = {
        name: outcome for outcome, name in re.findall(r"^(PASSED|FAILED) \S+::test_(\w+)", output, re.MULTILINE)
    }
    assert outcomes == {
        "quick": "PASSED",
        "waits": "PASSED",
        "works": "FAILED",
        "waits_for_a_child": "FAILED",
        "uses_the_fixture_first": "FAILED",
        "uses_the_fixture_again": "PASSED",
        "says_so": "PASSED",
    }
    reported = set(
        re.findall(r"(test_\w+) took 0\.\d s of .*; make it cheaper or mark it slow", output)
    )  # CI repeats lines
    assert reported == {f"test_{name}" for name, outcome in outcomes.items() if outcome == "FAILED"}


def test_a_slow_machine_gets_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor_time, "calibrate", lambda: processor_time.CALIBRATION * 4)
    assert processor_time.ProcessorTime()._slow() == 4.0
    monkeypatch.setattr(processor_time, "calibrate", lambda: processor_time.CALIBRATION / 4)
    assert processor_time.ProcessorTime()._slow() == 1.0
