"""The command of a launcher: its output twice, its status, signals to it once, and nobody left behind."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shared.errors import UsageError
from shared.launchers.launch import Tee, run
from shared.system.signals import Interrupts

ROOT = Path(__file__).resolve().parents[3]


class Console:
    """Two streams like sys.stdout and sys.stderr, in memory."""

    def __init__(self):
        self.out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
        self.err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")

    def said(self):
        return self.out.buffer.getvalue().decode(), self.err.buffer.getvalue().decode()


def ran(tmp_path, program, **exported):
    console = Console()
    with Tee(tmp_path / "log", console.out, console.err) as tee:
        status = run([sys.executable, "-c", program], exported, tee, Interrupts())
        tee.lines(["the end"])
    return (status, *console.said(), (tmp_path / "log").read_text())


def test_console_and_log_have_the_same(tmp_path):
    program = "import os, sys\nprint('out', os.environ['SAID'], flush=True)\nprint('err', file=sys.stderr)"
    status, out, err, log = ran(tmp_path, program, SAID="so")
    assert (status, out, err) == (0, "out so\nthe end\n", "err\n")
    assert sorted(log.splitlines()) == ["err", "out so", "the end"]
    assert log.endswith("the end\n")


def test_lines_of_the_two_streams_do_not_mix_in_the_log(tmp_path):
    """A line that comes in pieces, as print() sends it without a buffer, is written when it is whole."""
    console = Console()
    with Tee(tmp_path / "log", console.out, console.err) as tee:
        tee.write(console.out, b"out")
        assert console.said() == ("out", "")
        tee.write(console.err, b"err\nunfinished")
        tee.write(console.out, b" so\n")
    assert (tmp_path / "log").read_text() == "err\nout so\nunfinished"
    assert console.said() == ("out so\n", "err\nunfinished")


def test_a_log_on_a_full_disk_does_not_stop_the_command(tmp_path):
    """/dev/full takes nothing; the console has everything, and says so."""
    console = Console()
    with Tee(Path("/dev/full"), console.out, console.err) as tee:
        assert (
            run([sys.executable, "-c", "for number in range(3): print(number, flush=True)"], {}, tee, Interrupts()) == 0
        )
    out, err = console.said()
    assert out == "0\n1\n2\n"
    first, *_, last = err.splitlines()
    assert first.startswith("note: /dev/full cannot be written (No space left on device)")
    assert last.startswith("note: /dev/full lacks its last")


def test_much_output_is_whole(tmp_path):
    _, out, _, log = ran(tmp_path, "for number in range(20000): print(number, 'x' * 50)")
    lines = [f"{number} {'x' * 50}" for number in range(20000)] + ["the end"]
    assert out.splitlines() == lines
    assert log.splitlines() == lines


@pytest.mark.parametrize("status", [1, 2, 130, 143])
def test_the_status_is_the_commands(tmp_path, status):
    assert ran(tmp_path, f"raise SystemExit({status})")[0] == status


def test_a_killed_command_takes_its_children_along(tmp_path):
    """They would hold the device, and our pipes."""
    program = (
        "import os, signal, subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(child.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    status, out, _, _ = ran(tmp_path, program)
    assert status == 128 + signal.SIGKILL
    child = int(out.split()[0])
    for _ in range(400):
        if not Path(f"/proc/{child}").exists() or _is_zombie(child):
            return
        time.sleep(0.05)
    raise AssertionError("the child lives")


def _is_zombie(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


DRIVER = """
import sys
from pathlib import Path
from shared.system.signals import Interrupts
from shared.launchers.launch import Tee, run
with Interrupts() as interrupts, Tee(Path(sys.argv[1]), sys.stdout, sys.stderr) as tee:
    status = run([sys.executable, "-c", sys.argv[2]], {}, tee, interrupts)
sys.exit(status)
"""
# Counts the signals, and ends half a second after the first.
COUNTING = """
import signal, sys, time
seen = []
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, frame: seen.append(number))
print("ready", flush=True)
for _ in range(1200):
    time.sleep(0.05)
    if seen:
        time.sleep(0.5)
        print("signals", seen, flush=True)
        sys.exit(128 + seen[0])
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("to_the_group", [False, True])
def test_a_signal_reaches_the_command_once(tmp_path, number, to_the_group):
    """Also where the terminal sends it to everybody, as it does with Ctrl-C."""
    process = started(tmp_path, COUNTING)
    assert process.stdout.readline() == "ready\n"
    if to_the_group:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (128 + number, f"signals [{int(number)}]\n", "")


def test_a_console_that_nobody_reads_ends_the_command_and_the_log_goes_on(tmp_path):
    program = (
        "import time\n"
        "try:\n"
        "    for number in range(2400):\n"
        "        print(number, flush=True)\n"
        "        time.sleep(0.05)\n"
        "except BrokenPipeError:\n"
        "    open({!r}, 'w').write('saved')\n"
        "    raise SystemExit(141)".format(str(tmp_path / "saved"))
    )
    process = started(tmp_path, program)
    assert process.stdout.readline() == "0\n"
    process.stdout.close()
    assert process.wait(timeout=60) == 141
    assert process.stderr.read().count("Traceback") <= 1  # the command's own, of print's last flush
    assert (tmp_path / "saved").read_text() == "saved"
    assert (tmp_path / "log").read_text().startswith("0\n1")  # what the console did not take


def started(tmp_path, program):
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(tmp_path / "log"), program],
        cwd=str(ROOT),
        universal_newlines=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def test_a_log_that_cannot_be_written(tmp_path):
    console = Console()
    (tmp_path / "file").write_text("")
    for log in (tmp_path / "file" / "log", tmp_path):
        with pytest.raises(UsageError, match="cannot write"):
            Tee(log, console.out, console.err)
