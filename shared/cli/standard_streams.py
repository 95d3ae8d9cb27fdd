"""Standard input, output and error that are open and can encode any text."""

from __future__ import annotations

import os
import sys


def prepare() -> None:
    """Open a closed stream, as in `command >&-`, on the null device; escape characters that a stream cannot encode.

    Python sets a closed stream to None, and the next file opened would get its descriptor: the output of a library or
    of a child process would go into a checkpoint.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # gets the lowest free number, this one
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a test's or a notebook's may have no encoding
            stream.reconfigure(errors="backslashreplace")
