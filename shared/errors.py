"""The one kind of exception that is the user's to mend.

The command line turns a `UsageError` into one line on standard error, `error: what is wrong; what to do`, and
exit status 2. Every other exception is a defect of ours and keeps its traceback and exit status 1.
"""

from __future__ import annotations

from pathlib import Path

from shared.text import printable


class UsageError(Exception):
    """The command, the data or the environment is at fault: what is wrong; what to do.

    The message becomes one line, whatever the names of files in it are.
    """

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class DataError(UsageError):
    """A data set is missing, incomplete, damaged or hostile."""


def one_line(text: str) -> str:
    """The text without line ends and whatever else would not be seen on a screen; bytes of a name as escapes."""
    return "".join(letter if letter.isprintable() else "?" for letter in printable(text))


class RunEnded(UsageError):
    """Something that a run needs is gone; the run can go on from its last checkpoint."""

    def in_run(self, folder: Path) -> RunEnded:
        """The same error of a run in this folder."""
        if (folder / "checkpoints" / "last").exists():
            return type(self)(f"{self}; continue exactly with --resume {folder}")
        return type(self)(f"{self}; then start again: the run has no checkpoint yet")
