"""How a run handles a disk that is full, over quota, read-only or gone.

A log that cannot be written does not end a run (`shared.run.append_log`), nor does a checkpoint in the middle of it:
the previous one is still valid, and the next is tried when it is due. Without its last checkpoint, its weights or its
record a run ends with one line and exit status 2.
"""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any, Callable

from shared.checkpoint.folder import newest
from shared.errors import UsageError, reason
from shared.run.log import RunLog
from shared.system.paths import writing

# Errors that the user must fix. Any other OSError may be a defect of this project.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)


def save_checkpoint(save: Callable[[], Any], step: int, log: RunLog, folder: Path, best: bool, last: bool) -> None:
    """Call `save`, which writes the checkpoint of this step of the run in `folder`.

    A failure is one line in the log, and the run goes on; at the `last` of this process it raises UsageError.
    """
    log.sync()  # after a power cut, the events up to a checkpoint are there
    try:
        save()
    except OSError as error:
        what, into = f"the checkpoint of step {step}", folder / "checkpoints"
        if last:
            raise UsageError(f"cannot write {what} to {into} ({reason(error)}); {advice(folder)}") from error
        lost = ", and with it the best weights so far" if best else ""
        then = "the run goes on, and tries again with the next one"
        log.line(f"note: {what} cannot be written to {into} ({reason(error)}){lost}; {then}")


def optional(write: Callable[[], Any], path: Path, log: RunLog) -> None:
    """Call `write`, which writes a file that nothing depends on. A failure is one line in the log."""
    try:
        write()
    except OSError as error:
        log.line(f"note: {path} cannot be written ({reason(error)}); the run goes on without it")


def required(write: Callable[[], Any], path: Path) -> None:
    """Call `write`, which writes a file that a run must leave in its folder. Raises UsageError if that fails."""
    with writing(path, advice(path.parent)):
        write()


def advice(folder: Path) -> str:
    """How to continue a run in `folder` that a disk error has ended."""
    return f"free space and {continuation(folder)}"


def continuation(folder: Path) -> str:
    """How to continue a run in `folder` that has ended for want of something."""
    if newest(folder) is not None:
        return f"continue exactly with --resume {folder}"
    return "start again: the run has no checkpoint yet"
