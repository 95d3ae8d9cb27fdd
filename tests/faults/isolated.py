"""Inputs tried one after the other in a child process, so that one which kills or hangs the interpreter is named."""

from __future__ import annotations

import os
import signal
import traceback
from pathlib import Path
from typing import Any, Callable, Sequence

from shared.errors import UsageError

INPUT = "input"  # where the input that lost something is left, in the round's folder


def tried(inputs: Sequence[Any], check: Callable[[Any], str], folder: Path, seconds: int = 120) -> str:
    """What the first bad input has lost, "" for nothing. `check` may raise UsageError and nothing else.

    All of them together may take so many seconds. An input that is bytes stays in `folder`.
    """
    progress = folder / "progress"
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = _try_all(inputs, check, progress, seconds)
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    number, _, what = progress.read_text(encoding="utf-8").partition("\n")
    if status == 0 and int(number) == len(inputs):
        return ""
    bad = inputs[int(number)]
    content, name = bad[:2] if isinstance(bad, tuple) else (bad, "")
    if isinstance(content, bytes):
        (folder / INPUT).write_bytes(content)
    if os.WIFSIGNALED(status):
        ended = os.WTERMSIG(status)
        what = f"hangs, or all take more than {seconds} s" if ended == signal.SIGALRM else f"killed by signal {ended}"
    return f"input {number} of {len(inputs)} ({name or repr(content)[:300]}): {what or f'exit status {status}'}"


def _try_all(inputs: Sequence[Any], check: Callable[[Any], str], progress: Path, seconds: int) -> int:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(seconds)
    os.dup2(os.open(str(progress.with_name("stderr")), os.O_WRONLY | os.O_CREAT), 2)  # libtiff says what it thinks
    for number, one in enumerate(inputs):
        progress.write_text(f"{number}\n", encoding="utf-8")
        what = judged(lambda: check(one))  # noqa: B023
        if what:
            progress.write_text(f"{number}\n{what}", encoding="utf-8")
            return 1
    progress.write_text(f"{len(inputs)}\n", encoding="utf-8")
    return 0


def judged(check: Callable[[], str]) -> str:
    """What the check says; "" for a UsageError that is one line and says what to do."""
    try:
        return check()
    except UsageError as error:
        return bad_line(str(error))
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {str(error)[:200]} at {os.path.basename(where.filename)}:{where.lineno}"


def bad_line(text: str) -> str:
    """What is wrong with a UsageError's message: it is to be one readable line, `what is wrong; what to do`."""
    if not text.isprintable():
        return f"the message is not one printable line: {text[:200]!r}"
    if ";" not in text:
        return f"the message does not say what to do: {text[:200]!r}"
    return f"the message has {len(text):,} characters" if len(text) > 1500 else ""
