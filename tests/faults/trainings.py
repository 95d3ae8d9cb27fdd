"""Small trainings that end at any moment: a process imports the framework once and forks a child for each.

python -m tests.faults.trainings HALF       one request a line of standard input, one answer a line of its output
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, List

from tests.faults import power_cut
from tests.faults.case import TF
from tests.faults.worker_process import Asked

PATIENCE = 240  # seconds
SAVING = ["--print-freq", "1", "--save-steps", "2", "--keep", "2", "--device", "cpu"]
# Ten steps in two epochs, a checkpoint after every second one.
TF_WORDS = "--recipe sample --variant paper --depth 8 --batch-size 8 --steps-per-epoch 5 --epochs 2".split()
TF_EVALUATION = ["--eval-batch-size", "150"]  # two steps an evaluation; the sums of larger ones are rounded otherwise
# Fifteen steps in three epochs.
TORCH_WORDS = (
    "train --recipe se_resnet50_1p --image-size 32 --batch-size 4 --epochs 3 --warm-up-epochs 1 --dropout 0.3 "
    "--drop-path 0.3"
).split()
SAVED = "saved.txt"  # a step a line: the checkpoints that the program holds for safe
OPERATIONS = ("mkdir", "chmod", "fsync", "rename", "replace", "symlink", "unlink", "rmdir")


class Trainings:
    """The client's side."""

    def __init__(self, half: str) -> None:
        self._asked = Asked("tests.faults.trainings", half)

    def run(self, folder: Path, *options: str, **fault: Any) -> Dict[str, Any]:
        """Train into `folder`/disk/run. `status` of the answer is negative for a signal; `out` is what it printed.

        `fault`: signal, and `operation` (the how-manieth while checkpoints are written; `delay` seconds later) or
        `seconds` after the first step; `again` seconds later once more; `shadow`, see `power_cut`.
        """
        return dict(self._asked.answer(dict(fault, words=list(options), folder=str(folder))))


@functools.lru_cache(maxsize=None)
def trainings(half: str) -> Trainings:
    """One for this process."""
    return Trainings(half)


def fresh_words(half: str) -> List[str]:
    """The options of a new run."""
    if half == TF:
        return [*TF_WORDS, *SAVING, *TF_EVALUATION]
    from tests.faults.commands import tiny_images

    return [*TORCH_WORDS, *SAVING, "--data-path", str(tiny_images())]


def resume_words(half: str, run: Path) -> List[str]:
    """The options of its continuation."""
    return [*SAVING, *(TF_EVALUATION if half == TF else []), "--resume", str(run)]


# -- the process that forks ------------------------------------------------------------------------------------


def serve(half: str) -> None:
    main = _imported(half)
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        answers.write(json.dumps(_answer(main, json.loads(line))) + "\n")
        answers.flush()


def _imported(half: str) -> Callable[[List[str]], int]:
    """The half's command line, everything loaded that it needs and no thread started: those do not live in a fork."""
    for name in ("tensorboard.summary.writer.event_file_writer", "PIL.Image"):  # loaded late, and dear
        if importlib.util.find_spec(name.partition(".")[0]):
            importlib.import_module(name)
    if half == TF:
        from tf_seresnet import training  # noqa: F401
        from tf_seresnet.main import main

        return main
    import torch
    from PIL import Image

    from tests.torch_imagenet.small_network import create_small
    from torch_imagenet import run_setup as torch_setup
    from torch_imagenet.distributed import run as ranked
    from torch_imagenet.main import main as torch_main
    from torch_imagenet.networks import spec

    importlib.import_module("torch._dynamo")  # the first optimizer loads it, in six seconds
    Image.init()
    assert ranked
    torch.set_num_threads(1)
    spec.create = create_small
    torch_setup.workers = lambda config: 0  # images are read in the process: who reads them is not what is tested
    return torch_main


def _answer(main: Callable[[List[str]], int], request: Dict[str, Any]) -> Dict[str, Any]:
    folder = Path(request["folder"])
    out, saved = folder / "out.txt", folder / SAVED
    out.write_text("")
    pid = os.fork()
    if pid == 0:
        _child(main, request, out, saved)
    began = time.monotonic()
    first = _wait(pid, request, folder / "disk" / "run" / "events.jsonl")
    status = _end(pid)
    return {
        "status": -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status),
        "out": out.read_text(errors="replace"),
        "seconds": time.monotonic() - (first or began),
    }


def _wait(pid: int, request: Dict[str, Any], events: Path) -> float:
    """Until the time of the fault, which is then done; when the first step was logged."""
    before = events.stat().st_ino if events.exists() else None
    length = events.stat().st_size if before else 0
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and not _has_ended(pid):
        if events.exists() and (events.stat().st_size > length or events.stat().st_ino != before):
            break
        time.sleep(0.002)
    first = time.monotonic()
    if request.get("seconds") is not None:
        for pause in (request["seconds"], request.get("again")):
            if pause is not None and not _has_ended(pid, pause):
                os.kill(pid, request["signal"])
    return first


def _has_ended(pid: int, within: float = 0.0) -> bool:
    end = time.monotonic() + within
    while True:
        found = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if found is not None or time.monotonic() >= end:
            return found is not None
        time.sleep(min(0.002, max(0.0, end - time.monotonic())))


def _end(pid: int) -> int:
    if not _has_ended(pid, PATIENCE):
        os.kill(pid, signal.SIGKILL)
    return os.waitpid(pid, 0)[1]


def _child(main: Callable[[List[str]], int], request: Dict[str, Any], out: Path, saved: Path) -> None:
    status = 70
    try:
        descriptor = os.open(str(out), os.O_WRONLY | os.O_APPEND)
        for number in (1, 2):
            os.dup2(descriptor, number)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        if request.get("shadow"):
            power_cut.record(Path(request["folder"]) / "disk", Path(request["shadow"]))
        _watch_saving(request, saved)
        status = main(request["words"])
    except BaseException:  # a defect, to be seen in what it printed
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _watch_saving(request: Dict[str, Any], saved: Path) -> None:
    """Count what is done to the disk while checkpoints are written; at the given number, the fault comes."""
    from shared.checkpoint.folder import CheckpointFolder

    state = {"saving": False, "count": 0}

    def operation(delay: float = 0.0) -> None:
        state["count"] += 1
        if state["count"] == request.get("operation"):
            if delay:  # in the middle of what the framework writes
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.setitimer(signal.ITIMER_REAL, delay)
            else:
                os.kill(os.getpid(), request["signal"])

    def counted(original: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **named: Any) -> Any:
            if state["saving"]:
                operation()
            return original(*arguments, **named)

        return run

    for name in OPERATIONS:
        setattr(os, name, counted(getattr(os, name)))
    original = CheckpointFolder.save

    def save(self: Any, step: int, write: Callable[[Path], Any], *others: Any, **named: Any) -> Any:
        def written(folder: Path) -> None:
            operation(request.get("delay", 0.0))
            write(folder)

        state["saving"] = True
        try:
            target = original(self, step, written, *others, **named)
            operation()
        finally:
            state["saving"] = False
        with saved.open("a") as file:
            file.write(f"{step} {state['count']}\n")
        return target

    CheckpointFolder.save = save  # type: ignore[assignment]


def saved_steps(folder: Path) -> List[List[int]]:
    """Pairs of the steps whose checkpoints were written and the operations so far, in their order."""
    path = folder / SAVED
    lines = path.read_text().splitlines() if path.exists() else []
    return [[int(word) for word in line.split()] for line in lines]


if __name__ == "__main__":
    serve(sys.argv[1])
