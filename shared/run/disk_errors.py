"""What a run says and does where a disk does not take what it writes: full, over a quota, read-only, gone.

A log that cannot be written does not end a run (`shared.run.append_log`). Nor does a checkpoint in the middle of it:
the previous one is as good as ever, and the next is tried when it is due. What a run must leave behind is another
matter, its last checkpoint, its weights, its record: without one of them it ends with status 2 and one line.
"""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any, Callable

from shared.checkpoint.folder import newest
from shared.errors import UsageError
from shared.run.log import RunLog

# What no program can mend. Anything else that the system refuses may be a defect of ours.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)


def reason(error: OSError) -> str:
    """Why, in the system's words."""
    return error.strerror or str(error)


def save_checkpoint(save: Callable[[], Any], step: int, log: RunLog, folder: Path, best: bool, last: bool) -> bool:
    """Call `save`, which writes the checkpoint of this step of the run in `folder`; whether it did.

    Where the disk does not take it one line says so, and the run goes on. Raises UsageError where it was to be the
    `last` of this process.
    """
    log.sync()  # a checkpoint's events are never younger than it, whatever a power cut takes
    try:
        save()
        return True
    except OSError as error:
        if last:
            raise unwritten(folder / "checkpoints", error, folder, f"the checkpoint of step {step}") from error
        lost = ", and with it the best weights so far" if best else ""
        log.line(
            f"note: the checkpoint of step {step} cannot be written to {folder / 'checkpoints'} ({reason(error)})"
            f"{lost}; the run goes on, and tries again with the next one"
        )
        return False


def optional(write: Callable[[], Any], path: Path, log: RunLog) -> None:
    """Call `write`, which writes a file that nothing depends on; one line where it cannot."""
    try:
        write()
    except OSError as error:
        log.line(f"note: {path} cannot be written ({reason(error)}); the run goes on without it")


def required(write: Callable[[], Any], path: Path, folder: Path) -> None:
    """Call `write`, which writes a file that a run must leave. Raises UsageError where it cannot."""
    try:
        write()
    except OSError as error:
        raise unwritten(path, error, folder) from error


def unwritten(path: Path, error: OSError, folder: Path, what: str = "") -> UsageError:
    """The error of a run in `folder` that ends without this file."""
    into = f"{what} to {path}" if what else str(path)
    return UsageError(f"cannot write {into} ({reason(error)}); {advice(folder)}")


def advice(folder: Path) -> str:
    """What to do about a run in `folder` that a disk has ended."""
    if newest(folder) is not None:
        return f"free space and continue exactly with --resume {folder}"
    return "free space and start again: the run has no checkpoint yet"
