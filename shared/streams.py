"""Standard streams as a command line needs them: there, and able to take any text."""

from __future__ import annotations

import os
import sys


def prepare() -> None:
    """Standard output and error write an escape for what they cannot encode, and one that was closed goes nowhere.

    A closed one (`>&-`) is None in Python, and the next file that is opened gets its number: whatever native code, or a
    process that is started, has to say would be written into that file. The null device takes its place.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            _occupy(number)
            setattr(sys, name, open(os.devnull, "w" if number else "r", encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a test's or a notebook's may have no encoding
            stream.reconfigure(errors="backslashreplace")


def _occupy(number: int) -> None:
    """Give a descriptor that is free to the null device."""
    try:
        os.fstat(number)
    except OSError:
        nowhere = os.open(os.devnull, os.O_RDWR)
        if nowhere != number:
            os.dup2(nowhere, number)
            os.close(nowhere)
        os.set_inheritable(number, True)
