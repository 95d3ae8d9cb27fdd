"""Checks inputs one by one in a child process, so that an input that kills or hangs the interpreter is identified."""

from __future__ import annotations

import os
import signal
import traceback
from pathlib import Path
from typing import Any, Callable, Sequence

from shared.errors import UsageError

INPUT = "input"  # file name, in the round's folder, of the input that failed


def first_failure(inputs: Sequence[Any], check: Callable[[Any], str], folder: Path, seconds: int = 120) -> str:
    """The failure of the first input that fails, "" if none does. `check` may raise UsageError only.

    All inputs together may take this many seconds. A failed input of bytes is written to `folder`.
    """
    progress = folder / "progress"
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = _check_all(inputs, check, progress, seconds)
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    number, _, failure = progress.read_text(encoding="utf-8").partition("\n")
    if status == 0 and int(number) == len(inputs):
        return ""
    bad = inputs[int(number)]
    content, name = bad[:2] if isinstance(bad, tuple) else (bad, "")
    if isinstance(content, bytes):
        (folder / INPUT).write_bytes(content)
    if os.WIFSIGNALED(status):
        ended = os.WTERMSIG(status)
        failure = (
            f"hangs, or all take more than {seconds} s" if ended == signal.SIGALRM else f"killed by signal {ended}"
        )
    return f"input {number} of {len(inputs)} ({name or repr(content)[:300]}): {failure or f'exit status {status}'}"


def _check_all(inputs: Sequence[Any], check: Callable[[Any], str], progress: Path, seconds: int) -> int:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(seconds)
    os.dup2(os.open(str(progress.with_name("stderr")), os.O_WRONLY | os.O_CREAT), 2)  # libtiff prints warnings
    for number, item in enumerate(inputs):
        progress.write_text(f"{number}\n", encoding="utf-8")
        failure = failure_of(lambda: check(item))  # noqa: B023
        if failure:
            progress.write_text(f"{number}\n{failure}", encoding="utf-8")
            return 1
    progress.write_text(f"{len(inputs)}\n", encoding="utf-8")
    return 0


def failure_of(check: Callable[[], str]) -> str:
    """The result of the check; "" for a UsageError whose message is one line that says what to do."""
    try:
        return check()
    except UsageError as error:
        return message_defect(str(error))
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {str(error)[:200]} at {os.path.basename(where.filename)}:{where.lineno}"


def message_defect(text: str) -> str:
    """How a UsageError's message differs from one readable line, `what is wrong; what to do`."""
    if not text.isprintable():
        return f"the message is not one printable line: {text[:200]!r}"
    if ";" not in text:
        return f"the message does not say what to do: {text[:200]!r}"
    return f"the message has {len(text):,} characters: {text[:200]!r}" if len(text) > 1500 else ""
