"""Standard input, output and error, where whoever started the program has closed one, as in `command >&-`."""

from __future__ import annotations

import os
import sys


def complete() -> None:
    """Connect to nothing what is closed.

    Python has None for such a stream, on which writing is an AttributeError, and the next file that is opened would get
    its number: what a library prints would end in a checkpoint.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free number, which is this one
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            stream = open(number, "w" if number else "r", encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
