"""The command lines of both halves: parse the options, run the mode, turn errors into one line and an exit status."""

from __future__ import annotations

import contextlib
import sys
from typing import Any, Callable, Mapping

from shared.cli import standard_streams
from shared.cli.signals import Interrupts, Stopped
from shared.errors import UsageError, one_line, reason
from shared.run import disk_errors
from shared.system import orphans

Mode = Callable[[Any, Interrupts], None]


def run(parse: Callable[[], Any], modes: Mapping[str, Mode]) -> int:
    """Parse the options, run the mode that they name, and return the exit status.

    0: done. 2: a `UsageError` or a full, read-only or missing disk; one line on standard error. 129, 130, 141, 143:
    stopped by a signal, with a checkpoint written. Any other exception is a defect of ours and propagates.
    """
    standard_streams.prepare()
    try:
        options = parse()
        with Interrupts() as interrupts:
            orphans.follow()
            modes[options.mode](options, interrupts)
    except UsageError as error:
        return _refused(str(error))
    except Stopped as stopped:
        return stopped.exit_status
    except KeyboardInterrupt:  # outside Interrupts
        return 130
    except OSError as error:
        if error.errno not in disk_errors.FULL:
            raise
        what = one_line(str(error.filename or "a file"))
        return _refused(f"cannot write {what} ({reason(error)}); free space, or write to another disk")
    return 0


def _refused(message: str) -> int:
    with contextlib.suppress(OSError):  # standard error may be a file on the full disk
        print(f"error: {one_line(message)}", file=sys.stderr)
    return 2
