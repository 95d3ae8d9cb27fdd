"""The process of one contender: it sets itself up and then runs a round whenever a line on standard input asks for it.

    python benchmarks/worker.py MODULE:FUNCTION OPTIONS WARM_UP

OPTIONS is the JSON that the function gets. Answers are lines of JSON on standard output, which is the driver's alone:
whatever else is printed goes to standard error.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, TextIO

sys.path[0] = str(Path(__file__).resolve().parents[1])  # in place of this folder

from benchmarks.contender import Contender, installed_versions  # noqa: E402
from shared.system.processes import follow  # noqa: E402


def timed(contender: Contender, attempt: int) -> Any:
    """One round: its seconds and its images."""
    clock = time.process_time if contender.processor_time else time.perf_counter
    begin = clock()
    images = contender.run(attempt)
    seconds = clock() - begin
    return [contender.round_seconds() or seconds, images]


def serve(answers: TextIO) -> None:
    """Set up, warm up, say what this is, then one answer for each line asked."""

    def answer(content: Any) -> None:
        answers.write(json.dumps(content) + "\n")
        answers.flush()

    target, options, warm_up = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
    module, function = target.split(":")
    contender: Contender = getattr(importlib.import_module(module), function)(options)
    for attempt in range(warm_up):
        contender.run(attempt)
    facts = {"what": contender.what, "device": contender.device, "findings": contender.findings}
    answer({**facts, "processor_time": contender.processor_time, "versions": installed_versions()})
    for line in sys.stdin:
        answer(timed(contender, warm_up + int(line)))


def main() -> None:
    """Serve until standard input, or the driver, ends. SIGTERM unwinds: a contender ends what it has started."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    follow()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    serve(answers)


if __name__ == "__main__":
    main()
