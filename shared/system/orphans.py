"""Processes that end with their parent, even if it is killed and cannot stop them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from typing import Callable, Dict

VARIABLE = "KIT_PARENT"
_SECONDS = 0.5  # between two checks of the parent
_GRACE = 60.0  # to finish the step and write a checkpoint


def followed() -> Dict[str, str]:
    """Environment variables for a child process that is to end with this one; see `follow`."""
    return {VARIABLE: str(os.getpid())}


def follow() -> None:
    """End with the parent, if it asked for that by `followed`: by SIGTERM, with a checkpoint, and later by SIGKILL."""
    text = os.environ.pop(VARIABLE, "")  # not for child processes of this one
    if text.isdigit() and os.getppid() == int(text):
        _when_orphaned(_terminate)
    elif text.isdigit() and not _lives(int(text)):  # else another program between the two is responsible
        _terminate()


def end_with_parent(started_by: int) -> None:
    """Exit at once when the process that started this worker process has ended."""
    if multiprocessing.get_start_method() == "fork" and os.getppid() != started_by:
        os._exit(1)
    _when_orphaned(lambda: os._exit(1))


def _when_orphaned(do: Callable[[], None]) -> None:
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_SECONDS)
        do()

    threading.Thread(target=watch, daemon=True).start()


def _terminate() -> None:
    timer = threading.Timer(_GRACE, os.kill, (os.getpid(), signal.SIGKILL))
    timer.daemon = True
    timer.start()
    os.kill(os.getpid(), signal.SIGTERM)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except OSError as error:
        return not isinstance(error, ProcessLookupError)
    return True
