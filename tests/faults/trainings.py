"""Small trainings that are ended at any moment; one process imports the framework once and forks a child for each.

python -m tests.faults.trainings HALF       one request per input line, one reply per output line
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
from tests.faults.worker_process import Worker

TIMEOUT = 240  # seconds
SAVING = ["--print-freq", "1", "--save-steps", "2", "--keep", "2", "--device", "cpu"]
# Ten steps in two epochs, a checkpoint after every second one.
TF_OPTIONS = "--recipe sample --variant paper --depth 8 --batch-size 8 --steps-per-epoch 5 --epochs 2".split()
TF_EVALUATION = ["--eval-batch-size", "150"]  # two steps per evaluation; larger batches round differently
# Fifteen steps in three epochs.
TORCH_OPTIONS = (
    "train --recipe se_resnet50_1p --image-size 32 --batch-size 4 --epochs 3 --warm-up-epochs 1 --dropout 0.3 "
    "--drop-path 0.3"
).split()
SAVED = "saved.txt"  # one line per checkpoint that the program reported as saved
OPERATIONS = ("mkdir", "chmod", "fsync", "rename", "replace", "symlink", "unlink", "rmdir")


class Trainings:
    """The client of the process."""

    def __init__(self, half: str) -> None:
        self._worker = Worker("tests.faults.trainings", half)

    def run(self, folder: Path, *options: str, **fault: Any) -> Dict[str, Any]:
        """Train into `folder`/disk/run. In the reply `status` is negative for a signal, `out` is the output.

        `fault`: `signal`, sent at the disk operation number `operation` while checkpoints are written (`delay` seconds
        later) or `seconds` after the first step, and once more `again` seconds later; `shadow`: see `power_cut`.
        """
        return dict(self._worker.request(dict(fault, options=list(options), folder=str(folder))))


@functools.lru_cache(maxsize=None)
def trainings(half: str) -> Trainings:
    """The client of this process, started on first use."""
    return Trainings(half)


def new_run_options(half: str) -> List[str]:
    """The options of a new run."""
    if half == TF:
        return [*TF_OPTIONS, *SAVING, *TF_EVALUATION]
    from tests.faults.commands import tiny_images

    return [*TORCH_OPTIONS, *SAVING, "--data-path", str(tiny_images())]


def resume_options(half: str, run: Path) -> List[str]:
    """The options of a run's continuation."""
    return [*SAVING, *(TF_EVALUATION if half == TF else []), "--resume", str(run)]


# -- the process that forks ------------------------------------------------------------------------------------


def serve(half: str) -> None:
    main = load_main(half)
    replies = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        replies.write(json.dumps(_handle(main, json.loads(line))) + "\n")
        replies.flush()


def load_main(half: str) -> Callable[[List[str]], int]:
    """The half's `main`, with all imports done and no thread started: threads do not survive a fork."""
    for name in ("tensorboard.summary.writer.event_file_writer", "PIL.Image"):  # lazy and slow imports
        if importlib.util.find_spec(name.partition(".")[0]):
            importlib.import_module(name)
    if half == TF:
        from tf_seresnet import training  # noqa: F401
        from tf_seresnet.main import main

        return main
    import torch
    from PIL import Image

    from tests.torch_imagenet.small_network import create_small
    from torch_imagenet.distributed import run_on_devices as ranked
    from torch_imagenet.input_pipeline import loader
    from torch_imagenet.main import main as torch_main
    from torch_imagenet.networks import spec

    importlib.import_module("torch._dynamo")  # the first optimizer loads it, in six seconds
    Image.init()
    assert ranked
    torch.set_num_threads(1)
    spec.create = create_small
    loader.workers = lambda config: 0  # no data workers: they are not under test
    return torch_main


def _handle(main: Callable[[List[str]], int], request: Dict[str, Any]) -> Dict[str, Any]:
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
    """Wait for the first step and inject the fault. Returns the time of the first step."""
    before = events.stat().st_ino if events.exists() else None
    length = events.stat().st_size if before else 0
    end = time.monotonic() + TIMEOUT
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
    if not _has_ended(pid, TIMEOUT):
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
        status = main(request["options"])
    except BaseException:  # a defect: show it in the output
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _watch_saving(request: Dict[str, Any], saved: Path) -> None:
    """Count disk operations while checkpoints are written, and inject the fault at the requested one."""
    from shared.checkpoint.folder import CheckpointFolder

    state = {"saving": False, "count": 0}

    def operation(delay: float = 0.0) -> None:
        state["count"] += 1
        if state["count"] == request.get("operation"):
            if delay:  # while the framework writes
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
    """(step, number of disk operations so far) of every saved checkpoint, in order."""
    path = folder / SAVED
    lines = path.read_text().splitlines() if path.exists() else []
    return [[int(word) for word in line.split()] for line in lines]


if __name__ == "__main__":
    serve(sys.argv[1])
