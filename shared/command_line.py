"""What the command lines of both halves do around their modes: one line and a status for whatever a user can mend."""

from __future__ import annotations

import sys
from typing import Any, Callable, Mapping

from shared.errors import UsageError
from shared.interrupts import Interrupts, Stopped

Mode = Callable[[Any, Interrupts], None]


def run(parse: Callable[[], Any], modes: Mapping[str, Mode]) -> int:
    """Parse the options and run the mode that they name, with signals as requests. The exit status.

    0 done, 2 the user can mend it (one line on standard error), 130, 141 and 143 stopped by a signal, with a checkpoint
    written. Anything else is a defect of ours and passes with its traceback.
    """
    try:
        options = parse()
        with Interrupts() as interrupts:
            modes[options.mode](options, interrupts)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Stopped as stopped:
        return stopped.exit_status
    except KeyboardInterrupt:  # before or after the time in which signals are requests
        return 130
    return 0
