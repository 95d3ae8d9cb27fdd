"""Standard input, output and error as a command line needs them: there, and able to take any text."""

from __future__ import annotations

import os
import sys


def prepare() -> None:
    """Connect to nothing what is closed, as in `command >&-`; write an escape for what a stream cannot encode.

    Python has None for a closed stream, on which writing is an AttributeError, and the next file that is opened would
    get its number: what a library prints, or a process that is started, would end in a checkpoint.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free number, which is this one
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a test's or a notebook's may have no encoding
            stream.reconfigure(errors="backslashreplace")
