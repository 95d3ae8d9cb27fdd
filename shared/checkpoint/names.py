"""`last` and `best`: aliases of a run's checkpoints, on every file system and after every way of copying.

An alias is written as a symbolic link or, on file systems without links (exFAT, some network mounts), as a text file
with the checkpoint's name, which zip archives and git also make of a link there. It is read as either, and as the full
copy of the checkpoint that `cp -rL`, `scp -r` and `zip -r` make of a link.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from shared.system.atomic_files import write_atomic
from shared.system.strict_json import json_object

NAMES = ("last", "best")
STATE = "state.json"
REPLACED = ".replaced"
_NUMBERED = re.compile(r"step-\d{1,18}\Z")


def point(folder: Path, name: str, target: str) -> None:
    """Make `name` an alias of the checkpoint `target` atomically. Raises OSError."""
    temporary = folder / f".{name}"
    if os.path.lexists(str(temporary)):
        os.unlink(str(temporary))
    try:
        os.symlink(target, str(temporary))
    except (OSError, NotImplementedError):
        write_atomic(folder / name, target + "\n")
    else:
        os.replace(str(temporary), str(folder / name))


def followed(path: Path) -> Path:
    """The path, or the checkpoint that it names if it is a text file that is an alias."""
    if path.is_symlink() or not path.is_file():  # a pipe would block
        return path
    try:
        with path.open("rb") as file:
            target = file.read(64).decode("ascii").strip()
    except (OSError, ValueError):
        return path
    return path.parent / target if _NUMBERED.match(target) else path


def step_of(path: Path) -> int:
    """The step of a checkpoint from its name, that of an alias' target, or a copy's state; -1 if there is none."""
    name = os.readlink(str(path)) if path.is_symlink() else followed(path).name
    number = re.match(rf"\.?step-(\d+)({re.escape(REPLACED)})?$", os.path.basename(name))
    if number or path.name not in NAMES:
        return int(number.group(1)) if number else -1
    progress = json_object(path / STATE).get("progress")
    step = progress.get("step") if isinstance(progress, dict) else None
    return step if isinstance(step, int) and step >= 0 else -1
