"""The command lines: standard streams that work, options, the mode, and one line and an exit status for an error."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any, Callable, Mapping

from shared.errors import UsageError, one_line, reason
from shared.run import disk_errors
from shared.system import processes
from shared.system.signals import Interrupts, Stopped

Mode = Callable[[Any, Interrupts], None]


def run(parse: Callable[[], Any], modes: Mapping[str, Mode]) -> int:
    """Parse the options, run the mode that they name, and return the exit status.

    0: done. 2: a `UsageError` or a full, read-only or missing disk; one line on standard error. 129, 130, 141, 143:
    stopped by a signal, with a checkpoint written. Any other exception is a defect of ours and propagates.
    """
    prepare_streams()
    try:
        options = parse()
        with Interrupts() as interrupts:
            processes.follow()
            modes[options.mode](options, interrupts)
        return 0
    except UsageError as error:
        message = str(error)
    except Stopped as stopped:
        return stopped.exit_status
    except KeyboardInterrupt:  # outside Interrupts
        return 130
    except OSError as error:
        if error.errno not in disk_errors.FULL:
            raise
        message = f"cannot write {error.filename or 'a file'} ({reason(error)}); free space, or write to another disk"
    with contextlib.suppress(OSError):  # standard error may be a file on the full disk
        print(f"error: {one_line(message)}", file=sys.stderr)
    return 2


def prepare_streams() -> None:
    """Open a closed stream, as in `command >&-`, on the null device; escape characters that a stream cannot encode.

    The next file opened would get its descriptor: the output of a library would go into a checkpoint.
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
