"""Trainings whose disk fails: what they must leave behind, and how their continuation must end.

They run in a child process of `tests.faults.small_filesystems`.
"""

from __future__ import annotations

import contextlib
import json
import random
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List
from unittest import mock

from shared.checkpoint import folder as checkpoint_folder
from tests.faults import small_filesystems
from tests.faults.case import TF
from tests.faults.commands import Result, run_command
from tests.faults.trainings import resume_options

Main = Callable[[List[str]], int]


def undisturbed(half: str, main: Main, options: List[str], reference: Path) -> str:
    """Train without a fault, for comparison."""
    result = run_command(main, [*options, "--output-dir", str(reference / "run")])
    return "" if result.status == 0 else f"the undisturbed run ended with {result}"


def training(
    half: str, main: Main, options: List[str], reference: Path, name: str, folder: Path, rng: random.Random
) -> str:
    """A run whose disk fails from a random moment on, for a while or for good, and its continuation."""
    disk = small_filesystems.disk(name, folder / "disk")
    run = disk.folder / "run"
    moment = rng.choice(["step", "step", "step", "checkpoint", "record"])
    steps = len(_losses(reference / "run"))
    number, part = rng.randint(1, steps if moment == "step" else steps // 3), rng.random()
    until = rng.choice([None, number + rng.randint(1, 6)])
    how = f"at {moment} {number} until step {until}, part {part:.3f}"
    with _failing(half, disk, moment, number, part, until):
        result = run_command(main, [*options, "--output-dir", str(run)])
    failure = _ended_well(result) or _left_well(run, result, name) or _unreported(run, result, steps)
    disk.end()
    if failure:
        return f"{how}: {failure}"
    last = (run / "checkpoints" / "last").exists()
    if result.status == 2 and ("--resume" in result.err) != last:
        return f"{how}: a checkpoint is there or not, and the error says otherwise: {result.err}"
    again = run_command(main, resume_options(half, run) if last else [*options, "--output-dir", str(run)])
    if again.status:
        return f"{how}: the continuation of {result.err!r} ended with {again}"
    different = _same(half, run, reference / "run", "events.jsonl lacks" in result.out)
    return different and f"{how}: {different}; it printed {result.out[-500:]} {result.err}"


def console(
    half: str, main: Main, options: List[str], reference: Path, name: str, folder: Path, rng: random.Random
) -> str:
    """Standard output and error are files on a full disk: the run is the same, without visible output."""
    run = folder / "run"
    with open("/dev/full", "w") as nowhere, mock.patch.object(sys, "stdout", nowhere):
        with mock.patch.object(sys, "stderr", nowhere):
            status = main([*options, "--output-dir", str(run)])
        nowhere.close()  # must not fail: Python's end does the same
    text = (run / "train.log").read_text()
    if status or "record: " not in text:
        return f"status {status}, train.log ends with {text[-300:]}"
    return _same(half, run, reference / "run", False)


def read_only_disk(
    half: str, main: Main, options: List[str], reference: Path, name: str, folder: Path, rng: random.Random
) -> str:
    """A new run and a continuation on a read-only disk: one error line before anything is computed."""
    disk = small_filesystems.disk("full disk", folder / "disk")
    if not small_filesystems.own_mounts():
        return ""
    run = disk.folder / "run"
    with _failing(half, disk, "step", 7, 0.0, None):
        result = run_command(main, [*options, "--output-dir", str(run)])
    disk.end()
    small_filesystems.read_only(disk.folder)
    for command in (
        resume_options(half, run),
        [*options, "--output-dir", str(run)],
        [*options, "--output-dir", f"{run}2"],
    ):
        refused = run_command(main, command).missing_refusal("cannot write")
        if refused:
            return f"{command}: {refused}; the run before: {result.err}"
    return ""


# -- the fault -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _failing(
    half: str, disk: small_filesystems.Disk, moment: str, number: int, part: float, until: Any
) -> Iterator[None]:
    """Inside, the disk starts to fail before step or checkpoint `number`, or before the record is written."""
    from shared.checkpoint.folder import CheckpointFolder
    from shared.results import record

    if half == TF:
        from tf_seresnet.step.training_step import TrainingStep as Step
    else:
        from torch_imagenet.step.training_step import TrainingStep as Step
    counts: Dict[str, int] = {}

    def before(what: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **named: Any) -> Any:
            counts[what] = counts.get(what, 0) + 1
            if what == moment and counts[what] == (1 if what == "record" else number):
                disk.begin(part)
            if what == "step" and counts[what] == until:
                disk.end()
            return original(*arguments, **named)

        return run

    with mock.patch.object(Step, "run", before("step", Step.run)), mock.patch.object(
        CheckpointFolder, "save", before("checkpoint", CheckpointFolder.save)
    ), mock.patch.object(record, "write_record", before("record", record.write_record)):
        yield


# -- checks ---------------------------------------------------------------------------------------------------


def _ended_well(result: Result) -> str:
    if result.status == 0:
        return f"status 0 and an error: {result.err}" if result.err else ""
    return result.missing_refusal("cannot write")


def _left_well(run: Path, result: Result, name: str) -> str:
    hidden = [path.name for path in run.rglob(".*")] if name != "read-only" else []
    if hidden:
        return f"half-written files stay: {hidden}"
    for path in (run / "checkpoints").glob("step-*"):
        checkpoint_folder.find(path)  # raises if it is incomplete
    for log in ("train.log", "events.jsonl"):
        content = (run / log).read_bytes() if (run / log).exists() else b""
        if content and not content.endswith(b"\n"):
            return f"{log} ends with half a line: {content[-80:]!r}"
    return ""


def _unreported(run: Path, result: Result, expected: int) -> str:
    """A log that lacks lines without a message on the console."""
    log, events = run / "train.log", run / "events.jsonl"
    written = log.read_text() if log.exists() else ""
    missing = [line for line in result.out.splitlines() if line not in written]
    if (
        missing
        and f"{log} lacks" not in result.out
        and f"cannot write {log}" not in result.err
        and not all(line.startswith("note: ") for line in missing)
    ):
        return f"train.log lacks {missing[0]!r}, and no message says so: {result.out[-500:]}"
    reported = f"{events} lacks" in result.out or f"cannot write {events}" in result.err
    logged = [json.loads(line) for line in events.read_text().splitlines()] if events.exists() else []
    steps = [event["step"] for event in logged if event["event"] == "step"]
    if steps != list(range(1, len(steps) + 1)):
        return f"events.jsonl has the steps {steps}"
    if result.status == 0 and len(steps) < expected and not reported:
        return f"events.jsonl ends with step {steps[-1:]}, and no message says so"
    return ""


def _same(half: str, run: Path, reference: Path, events_lack: bool) -> str:
    """How the run differs from the undisturbed one, "" if it does not."""
    weights, expected = _weights(half, run), _weights(half, reference)
    different = [name for name in sorted(set(weights) | set(expected)) if weights.get(name) != expected.get(name)]
    if different:
        return f"{len(different)} of {len(expected)} values of the checkpoint differ, {different[0]} first"
    record, other = (json.loads((path / "result.json").read_text()) for path in (run, reference))
    for key in ("train", "best", "steps_completed", "images_trained", "epochs_completed"):
        if record[key] != other[key]:
            return f"{key} of the record is {record[key]}, of the undisturbed run's {other[key]}"
    if record["evaluation"]["loss"] != other["evaluation"]["loss"]:
        return "the evaluation's loss differs"
    losses, expected_losses = _losses(run), _losses(reference)
    if losses != expected_losses and not (events_lack and set(losses) <= set(expected_losses)):
        return f"the logged losses differ: {losses} {expected_losses}"
    hidden = [path.name for path in run.rglob(".*")]
    return f"half-written files stay: {hidden}" if hidden else ""


def _losses(run: Path) -> List[Any]:
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    return [(event["step"], event["loss"], event["step_loss"]) for event in events if event["event"] == "step"]


def _weights(half: str, run: Path) -> Dict[str, bytes]:
    """All values of the last checkpoint's framework file: weights, averages, optimizer state."""
    last = run / "checkpoints" / "last"
    if half == TF:
        import tensorflow as tf

        reader = tf.compat.v1.train.load_checkpoint(str(last / "model.ckpt"))
        return {name: reader.get_tensor(name).tobytes() for name in reader.get_variable_to_shape_map()}
    import torch

    state = torch.load(str(last / "training.pth"), map_location="cpu", weights_only=True)
    values = {f"network {name}": value.numpy().tobytes() for name, value in state["network"].items()}
    for key, slots in state["optimizer"]["state"].items():
        values[f"momentum {key}"] = slots["momentum_buffer"].numpy().tobytes()
    return values
