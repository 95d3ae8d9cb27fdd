"""Contenders for the tests of the benchmarks: each does one thing, right or wrong."""

from __future__ import annotations

import subprocess
import sys
import time

from benchmarks.contender import Contender


def noting(options):
    """Appends its name and the round to a file."""

    def run(attempt):
        with open(options["file"], "a") as file:
            file.write(f"{options['name']}{attempt} ")
        return 6

    return Contender(run, "notes")


def printing(options):
    """Prints to standard output at every opportunity."""
    print("noise", flush=True)

    def run(attempt):
        print("more noise", flush=True)
        return 1

    return Contender(run, "prints")


def broken(options):
    """Cannot be set up."""
    raise ValueError("no such thing")


def gone(options):
    """Ends without a word."""
    sys.exit(3)


def failing(options):
    """Fails in its second round."""

    def run(attempt):
        if attempt == 1:
            raise RuntimeError("the second round")
        return 1

    return Contender(run, "fails")


def waiting(options):
    """Starts a process and is never ready."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with open(options["file"], "w") as file:
        file.write(str(child.pid))
    time.sleep(600)


def measuring(options):
    """Has its own account of the time."""
    return Contender(lambda attempt: 10, "measures", round_seconds=lambda: 2.5)


def quick(options):
    """One image in no time, in the name of `options`."""
    return Contender(lambda attempt: time.sleep(options["seconds"]) or 1, options["name"])
