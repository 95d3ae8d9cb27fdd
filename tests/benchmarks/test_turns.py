"""benchmarks/turns.py: contenders in processes of their own take turns, and what goes wrong in one is told."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.record import SideRecord
from benchmarks.turns import Failed, Process, take_turns

ROOT = Path(__file__).resolve().parents[2]
CONTENDERS = "tests.benchmarks.contenders"
FOREVER = float("inf")


def process(tmp_path, function, options=None, warm_up=0):
    return Process(sys.executable, f"{CONTENDERS}:{function}", options or {}, warm_up, {}, tmp_path / f"{function}.log")


def test_processes_take_turns_in_an_order_that_alternates(tmp_path):
    written = tmp_path / "order"
    sides = {name: process(tmp_path, "noting", {"name": name, "file": str(written)}, 1) for name in ("a", "b")}
    for side in sides.values():
        side.wait_until_ready(FOREVER)
    warm = sorted(written.read_text().split())
    written.write_text("")
    ran = take_turns(sides, 3, FOREVER)
    for side in sides.values():
        side.close()
    assert warm == ["a0", "b0"]
    assert written.read_text().split() == ["a1", "b1", "b2", "a2", "a3", "b3"]
    assert [each.images for each in ran["a"]] == [6, 6, 6]
    assert all(each.seconds > 0 for each in ran["a"])


def test_what_a_contender_prints_is_no_answer(tmp_path):
    side = process(tmp_path, "printing")
    side.wait_until_ready(FOREVER)
    assert side.facts["what"] == "prints"
    assert side.facts["versions"]["python"] == sys.version.split()[0]
    assert take_turns({"printing": side}, 1, FOREVER)["printing"][0].images == 1
    side.close()
    assert "noise" in (tmp_path / "printing.log").read_text()


@pytest.mark.parametrize(("function", "words"), [("broken", "ValueError: no such thing"), ("gone", "status 3")])
def test_a_contender_that_fails_is_told_with_its_last_line(tmp_path, function, words):
    side = process(tmp_path, function)
    with pytest.raises(Failed, match=words):
        side.wait_until_ready(FOREVER)
    side.close()


def test_a_contender_that_fails_in_a_round(tmp_path):
    side = process(tmp_path, "failing")
    side.wait_until_ready(FOREVER)
    with pytest.raises(Failed, match="RuntimeError: the second"):
        take_turns({"failing": side}, 3, FOREVER)
    side.close()


def test_a_set_up_that_takes_too_long_is_ended_with_what_it_started(tmp_path):
    side = process(tmp_path, "waiting", {"file": str(tmp_path / "child")})
    with pytest.raises(Failed, match="took too long"):
        side.wait_until_ready(time.monotonic() + 0.1)
    child = tmp_path / "child"
    _wait_until(lambda: child.is_file() and child.read_text())
    side.close()
    _wait_until(
        lambda: _state(int(child.read_text())) in ("", "Z")
    )  # a zombie until its new parent has read its status


DRIVER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from benchmarks.turns import Process
side = Process(sys.executable, "tests.benchmarks.contenders:printing", {}, 0, {}, Path(sys.argv[2]))
side.wait_until_ready(float("inf"))
print(side._process.pid, flush=True)
sys.stdin.read()
"""


def test_a_process_ends_with_a_driver_that_was_killed(tmp_path):
    command = [sys.executable, "-c", DRIVER, str(ROOT), str(tmp_path / "log")]
    driver = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    started = int(driver.stdout.readline())
    assert _state(started) not in ("", "Z")
    driver.kill()
    driver.communicate()
    _wait_until(lambda: _state(started) in ("", "Z"))


def _wait_until(condition):
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail("a minute has passed")


def _state(pid):
    """The state of a process as /proc has it; empty where there is none."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0]
    except OSError:
        return ""


def test_no_round_is_begun_after_the_deadline(tmp_path):
    side = process(tmp_path, "printing")
    side.wait_until_ready(FOREVER)
    assert len(take_turns({"side": side}, 5, time.monotonic() - 1)["side"]) == 1
    side.close()


def test_a_contender_may_measure_itself(tmp_path):
    side = process(tmp_path, "measuring")
    side.wait_until_ready(FOREVER)
    ran = take_turns({"side": side}, 1, FOREVER)["side"]
    side.close()
    record = SideRecord.of(side.facts, ran)
    assert (record.seconds, record.rates) == ((2.5,), [4.0])


if os.name != "posix":
    pytest.skip("processes and signals are POSIX's", allow_module_level=True)
