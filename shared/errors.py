"""The exceptions for problems that the user can fix.

The command line turns a `UsageError` into one line on standard error, `error: what is wrong; what to do`, and exit
status 2. Every other exception is a defect of this project: a traceback and exit status 1.
"""

from __future__ import annotations

from shared.text import printable


class UsageError(Exception):
    """The command, the data or the environment is at fault: "what is wrong; what to do", made one line."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class DataError(UsageError):
    """A data set is missing, incomplete, damaged or hostile."""


def reason(error: OSError) -> str:
    """The system's message."""
    return error.strerror or str(error)


def one_line(text: str) -> str:
    """The text with "?" for line ends and other unprintable characters, and escapes for undecodable bytes of names."""
    return "".join(letter if letter.isprintable() else "?" for letter in printable(text))


class RunEnded(UsageError):
    """Something that the run needs is gone; the run can be resumed from its last checkpoint."""
