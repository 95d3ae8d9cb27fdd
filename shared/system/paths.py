"""Paths as users write them, and the data set that a checkpoint names."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import Union

from shared.errors import DataError, UsageError


def expanded(path: Union[str, Path]) -> str:
    """`path` with the home that ~ or ~user stands for: no shell expands it in --data-path=~/x or in a variable.

    Raises UsageError where nobody knows that home: a folder called ~ in the current one is never what was meant.
    """
    text = str(path)
    if not text.startswith("~"):
        return text
    name = text.split("/")[0]
    with contextlib.suppress(KeyError):  # Python 3.7's, for a user id that nobody knows
        whole = os.path.expanduser(text)
        if os.path.isabs(whole) and (name != "~" or os.environ.get("HOME") != ""):
            return whole
    why = "HOME is unset or no absolute path" if name == "~" else "there is no such user"
    raise UsageError(f"{text} begins with {name}, whose folder nobody knows ({why}); write the whole path")


def on_disk(path: str) -> str:
    """`path`, `expanded`, of what is read from a disk alone. Raises UsageError for a URL, which Path would garble."""
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", path):
        raise UsageError(f"{path} is a URL and is not read from there; download it and name the file")
    return expanded(path)


def check_there(path: str) -> None:
    """Raise DataError where the data set that a checkpoint names is gone: no other one takes its place."""
    try:
        there = os.path.lexists(path)
    except ValueError:  # Python 3.7's, for what cannot be a path, as in a stranger's checkpoint
        there = False
    if not there:
        raise DataError(
            f"{path}, where the checkpoint was trained, is gone; say with --data-path where its data is now"
        )
