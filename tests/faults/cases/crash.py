"""A run that is ended at any moment, also while it writes a checkpoint, continues exactly, bit for bit."""

from __future__ import annotations

import atexit
import functools
import json
import os
import random
import shutil
import signal
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Sequence

from shared.checkpoint import folder as checkpoint_folder
from shared.errors import UsageError
from tests.faults import power_cut
from tests.faults.case import TF, TORCH, Case
from tests.faults.trainings import new_run_options, resume_options, saved_steps, trainings

_VARYING = ("time", "images_per_second", "step_ms_p50", "step_ms_p95", "data_wait_share", "steps_timed")
_RECORD = ("train", "evaluation", "best", "epochs_completed", "steps_completed", "images_trained")


class Undisturbed(NamedTuple):
    """The run without a fault."""

    folder: Path
    seconds: float  # from its first step to its end
    operations: int  # disk operations while checkpoints are written


# -- the cases -------------------------------------------------------------------------------------------------


def a_signal(half: str, number: int, folder: Path, rng: random.Random, more: Sequence[str] = ()) -> str:
    """A signal at a random moment; in a third of the rounds the continuation gets another one."""
    return _ended(half, folder, rng, number, more=more)


def a_power_cut(half: str, folder: Path, rng: random.Random, more: Sequence[str] = ()) -> str:
    """A power cut at a random moment: the process and all that was not synced are lost."""
    return _ended(half, folder, rng, signal.SIGKILL, power=True, more=more)


def _ended(
    half: str, folder: Path, rng: random.Random, number: int, power: bool = False, more: Sequence[str] = ()
) -> str:
    reference = undisturbed(half, *more)
    run = folder / "disk" / "run"
    run.parent.mkdir()
    options, moments, saved = [*new_run_options(half), *more, "--output-dir", str(run)], [], []
    for _ in range(rng.choice([1, 1, 2])):
        fault = _moment(reference, rng, number)
        moments.append(fault)
        shadow = {"shadow": str(folder / "shadow")} if power else {}
        trainings(half).run(folder, *options, **fault, **shadow)
        saved += saved_steps(folder)[len(saved) :]
        if power:
            power_cut.cut(run.parent, folder / "shadow", rng)
        failure = unreadable(run) or _forgotten(run, max((step for step, _ in saved), default=0))
        if failure:
            return f"after {moments}: {failure}"
        if list(run.glob("checkpoints/step-*")):
            options = [*resume_options(half, run), *more]
        else:  # before the first checkpoint: repeat the command
            shutil.rmtree(str(run), ignore_errors=True)
    result = trainings(half).run(folder, *options)
    if result["status"]:
        return f"after {moments}: the continuation ended with {result['status']}: {result['out'][-400:]}"
    failure = differences(outcome(run), outcome(reference.folder))
    return f"after {moments}: {failure}" if failure else ""


def _moment(reference: Undisturbed, rng: random.Random, number: int) -> Dict[str, Any]:
    """Two fifths are while a checkpoint is written, a fifth of these while the framework writes its file."""
    if rng.random() < 0.4:
        delay = rng.uniform(0.0005, 0.03) if number == signal.SIGKILL and rng.random() < 0.2 else 0.0
        return {"signal": number, "operation": rng.randint(1, reference.operations), "delay": delay}
    again = rng.uniform(0, 0.2) if number == signal.SIGTERM and rng.random() < 0.3 else None
    return {"signal": number, "seconds": rng.uniform(0, reference.seconds), "again": again}


def newest_damaged(half: str, folder: Path, rng: random.Random) -> str:
    """A file of the newest checkpoint is damaged: the run continues from the previous one, and the log says so."""
    run = _interrupted(half, folder)
    newest, previous = sorted(run.glob("checkpoints/step-*"))[:-3:-1]
    file = rng.choice(sorted(newest.iterdir()))
    damage = _damage(file, rng)
    result = trainings(half).run(folder, *resume_options(half, run))
    if result["status"]:
        return f"{file.name} {damage}: status {result['status']}: {result['out'][-400:]}"
    log = (run / "train.log").read_text()
    if f"{newest.name} is damaged" not in log or f"{previous}" not in log:
        return f"{file.name} {damage}: the log does not say so"
    failure = differences(outcome(run), outcome(undisturbed(half).folder))
    return f"{file.name} {damage}: {failure}" if failure else ""


def all_damaged(half: str, folder: Path, rng: random.Random) -> str:
    """All checkpoints are damaged: one error line, and the run is left unchanged."""
    run = _interrupted(half, folder)
    for checkpoint in run.glob("checkpoints/step-*"):
        _damage(rng.choice(sorted(checkpoint.iterdir())), rng)
    before = _contents(run)
    result = trainings(half).run(folder, *resume_options(half, run))
    lines = result["out"].splitlines()
    if result["status"] != 2 or len(lines) != 1 or not lines[0].startswith("error: ") or "damaged" not in lines[0]:
        return f"no refusal: status {result['status']}, {result['out'][-400:]!r}"
    return "" if _contents(run) == before else "the refused continuation has changed the run"


def _interrupted(half: str, folder: Path) -> Path:
    """A run that is killed after its third checkpoint and keeps two."""
    (folder / "disk").mkdir()
    run = folder / "disk" / "run"
    operation = saved_steps(undisturbed(half).folder.parents[1])[2][1] + 1
    trainings(half).run(
        folder, *new_run_options(half), "--output-dir", str(run), signal=signal.SIGKILL, operation=operation
    )
    return run


def _damage(file: Path, rng: random.Random) -> str:
    content = bytearray(file.read_bytes())
    damage = rng.choice(["is cut", "has another bit", "is gone", "is a folder"])
    if damage == "is cut":
        file.write_bytes(content[: rng.randrange(len(content))])
    elif damage == "has another bit":
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        file.write_bytes(content)
    else:
        file.unlink()
        if damage == "is a folder":
            file.mkdir()
    return damage


# -- checks ---------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=None)
def undisturbed(half: str, *more: str) -> Undisturbed:
    """The run without a fault, trained once per process."""
    folder = Path(tempfile.mkdtemp(prefix="faults-undisturbed-"))
    atexit.register(shutil.rmtree, str(folder), ignore_errors=True)
    run = folder / "disk" / "run"
    run.parent.mkdir()
    result = trainings(half).run(folder, *new_run_options(half), *more, "--output-dir", str(run))
    assert result["status"] == 0, result["out"]
    return Undisturbed(run, result["seconds"], saved_steps(folder)[-1][1])


def unreadable(run: Path) -> str:
    """The first checkpoint that cannot be read, "" if there is none."""
    for path in sorted(run.glob("checkpoints/step-*")):
        try:
            checkpoint_folder.find(path)
        except UsageError as error:
            return f"an unreadable checkpoint: {error}"
    return ""


def _forgotten(run: Path, step: int) -> str:
    """A checkpoint that was reported as saved and is lost."""
    if not step:
        return ""
    found = checkpoint_folder.find(run).state["progress"]["step"]
    return f"saved step {step}, found step {found}" if found < step else ""


def outcome(run: Path) -> Dict[str, Any]:
    """The results of a run that must not depend on interruptions, by name.

    The checksums of the checkpoints cover weights, optimizer and random states.
    """
    last = checkpoint_folder.find(run).state
    record = json.loads((run / "result.json").read_text())
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    found = {"weights and optimizer": last["files"], "progress": last["progress"]}
    for name in ("last", "best"):
        found[name] = os.readlink(str(run / "checkpoints" / name))
    for name in _RECORD:
        part = record[name]
        found[name] = {key: part[key] for key in part if key != "checkpoint"} if isinstance(part, dict) else part
    for event in events:
        values = {key: value for key, value in event.items() if key not in _VARYING}
        found.setdefault(f"events {event['event']} of step {event['step']}", []).append(values)
    return found


def differences(run: Dict[str, Any], reference: Dict[str, Any]) -> str:
    """The names of all differences between two outcomes."""
    return ", ".join(f"{name} differ" for name in sorted({*run, *reference}) if run.get(name) != reference.get(name))


def _contents(folder: Path) -> Dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _both(name: str, run: Callable[..., str], *arguments: Any, **settings: Any) -> List[Case]:
    return [Case(name, half, functools.partial(run, half, *arguments), **settings) for half in (TF, TORCH)]


# Quick are the cases that cover the others: a power cut never leaves more than SIGKILL does.
CASES = [
    *_both("SIGKILL at any moment", a_signal, signal.SIGKILL, rounds=50, quick=False),
    *_both("SIGTERM at any moment", a_signal, signal.SIGTERM, rounds=50, slow=True),
    *_both("power cut at any moment", a_power_cut, rounds=50, slow=True),
    *_both("the newest checkpoint is damaged", newest_damaged, rounds=12, quick=False),
    *_both("all checkpoints are damaged", all_damaged, rounds=3, quick=False),
]
