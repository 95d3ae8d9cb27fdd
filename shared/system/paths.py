"""Paths that come from users and from checkpoints, and files that cannot be read."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import Iterator, Union

from shared.errors import DataError, UsageError, reason

HUB = "hf-hub:"


def expanded(path: Union[str, Path]) -> str:
    """Return `path` with ~ or ~user replaced by the home folder, as no shell does in --data-path=~/x or a variable.

    Raises UsageError if that home is unknown: nobody means a folder named ~ in the current one.
    """
    text = str(path)
    name = text.split("/")[0]
    if not text.startswith("~"):
        return text
    with contextlib.suppress(KeyError):  # what Python 3.7 raises for an unknown user id
        result = os.path.expanduser(text)
        if os.path.isabs(result) and (name != "~" or os.environ.get("HOME") != ""):
            return result
    why = "HOME is unset or no absolute path" if name == "~" else "there is no such user"
    raise UsageError(f"{text} begins with {name}, whose folder nobody knows ({why}); write the whole path")


@contextlib.contextmanager
def reading(path: object, remedy: str) -> Iterator[None]:
    """Turn an OSError in the block into a DataError: "cannot read PATH (reason); REMEDY"."""
    try:
        yield
    except OSError as error:
        raise DataError(f"cannot read {path} ({reason(error)}); {remedy}") from error


@contextlib.contextmanager
def writing(path: object, remedy: str) -> Iterator[None]:
    """Turn an OSError in the block into a UsageError: "cannot write PATH (reason); REMEDY"."""
    try:
        yield
    except OSError as error:
        raise UsageError(f"cannot write {path} ({reason(error)}); {remedy}") from error


def is_elsewhere(name: str) -> bool:
    """Whether this is a URL, or a name on the Hugging Face Hub as timm writes it, hf-hub:OWNER/NAME, and no path."""
    return re.match(rf"{HUB}|[A-Za-z][A-Za-z0-9+.-]+://", name) is not None


def on_disk(path: str) -> str:
    """Return `expanded(path)` of a local file or folder. Raises UsageError for a URL, which Path would change."""
    if is_elsewhere(path):
        what = "a name on a hub" if path.startswith(HUB) else "a URL"
        raise UsageError(f"{path} is {what} and is not read from there; download it and name the file")
    return expanded(path)


def anywhere(path: str) -> str:
    """Return `expanded(path)` of a local file or folder, and what `is_elsewhere` as it is."""
    return path if is_elsewhere(path) else expanded(path)


def check_there(path: str) -> None:
    """Raise DataError if the data set that a checkpoint names is gone: no other may silently replace it."""
    with contextlib.suppress(ValueError):  # what Python 3.7 raises for a text that cannot be a path
        if os.path.lexists(path):
            return
    raise DataError(f"{path}, where the checkpoint was trained, is gone; say with --data-path where its data is now")
