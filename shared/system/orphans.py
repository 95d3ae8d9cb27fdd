"""Processes that end with the one that started them, also where that one is killed and can end nobody."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from typing import Callable, Dict

VARIABLE = "KIT_PARENT"
_SECONDS = 0.5  # between two looks
_GRACE = 60.0  # for the step in hand and a checkpoint


def followed() -> Dict[str, str]:
    """For the environment of a process of ours that is to end with this one; see `follow`."""
    return {VARIABLE: str(os.getpid())}


def follow() -> None:
    """Where the process that started this one has asked for it, end with it: by SIGTERM, later by SIGKILL.

    The SIGTERM lets a training write its checkpoint, the ranks of one together.
    """
    text = os.environ.pop(VARIABLE, "")  # not for what this process starts in turn
    if not text.isdigit():
        return
    if os.getppid() != int(text):
        if _lives(int(text)):
            return  # another program stands between the two, and answers for this one
        _ask()
        return
    _when_orphaned(_ask)


def end_with_parent(started_by: int) -> None:
    """For a worker process, which has nothing to finish: end at once when the process that started it has ended."""
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


def _ask() -> None:
    timer = threading.Timer(_GRACE, os.kill, (os.getpid(), signal.SIGKILL))
    timer.daemon = True
    timer.start()
    os.kill(os.getpid(), signal.SIGTERM)


def _lives(process: int) -> bool:
    with contextlib.suppress(PermissionError):
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return False
    return True
