"""A run that ends at any moment, checkpoint writing included, goes on as if nothing had been, bit for bit."""

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
from tests.faults.trainings import fresh_words, resume_words, saved_steps, trainings

_VARYING = ("time", "images_per_second", "step_ms_p50", "step_ms_p95", "data_wait_share", "steps_timed")
_RECORD = ("train", "evaluation", "best", "epochs_completed", "steps_completed", "images_trained")


class Undisturbed(NamedTuple):
    """The run that nothing happened to."""

    folder: Path
    seconds: float  # from its first step to its end
    operations: int  # on the disk, while checkpoints are written


# -- the cases -------------------------------------------------------------------------------------------------


def a_signal(half: str, number: int, folder: Path, random: random.Random, more: Sequence[str] = ()) -> str:
    """The process gets a signal at a random moment, in a third of the rounds the continuation gets another."""
    return _ended(half, folder, random, number, more=more)


def a_power_cut(half: str, folder: Path, random: random.Random, more: Sequence[str] = ()) -> str:
    """The process is gone at a random moment, and with it what was not synced."""
    return _ended(half, folder, random, signal.SIGKILL, power=True, more=more)


def _ended(
    half: str, folder: Path, random: random.Random, number: int, power: bool = False, more: Sequence[str] = ()
) -> str:
    whole = undisturbed(half, *more)
    run = folder / "disk" / "run"
    run.parent.mkdir()
    words, moments, saved = [*fresh_words(half), *more, "--output-dir", str(run)], [], []
    for _ in range(random.choice([1, 1, 2])):
        fault = _moment(whole, random, number)
        moments.append(fault)
        shadow = {"shadow": str(folder / "shadow")} if power else {}
        trainings(half).run(folder, *words, **fault, **shadow)
        saved += saved_steps(folder)[len(saved) :]
        if power:
            power_cut.cut(run.parent, folder / "shadow", random)
        wrong = unreadable(run) or _forgotten(run, max((step for step, _ in saved), default=0))
        if wrong:
            return f"after {moments}: {wrong}"
        if list(run.glob("checkpoints/step-*")):
            words = [*resume_words(half, run), *more]
        else:  # before the first checkpoint; the same command starts the run again
            shutil.rmtree(str(run), ignore_errors=True)
    said = trainings(half).run(folder, *words)
    if said["status"]:
        return f"after {moments}: the continuation ended with {said['status']}: {said['out'][-400:]}"
    wrong = differences(outcome(run), outcome(whole.folder))
    return f"after {moments}: {wrong}" if wrong else ""


def _moment(whole: Undisturbed, random: random.Random, number: int) -> Dict[str, Any]:
    """Two fifths of them while a checkpoint is written, a fifth of those while the framework writes its file."""
    if random.random() < 0.4:
        delay = random.uniform(0.0005, 0.03) if number == signal.SIGKILL and random.random() < 0.2 else 0.0
        return {"signal": number, "operation": random.randint(1, whole.operations), "delay": delay}
    again = random.uniform(0, 0.2) if number == signal.SIGTERM and random.random() < 0.3 else None
    return {"signal": number, "seconds": random.uniform(0, whole.seconds), "again": again}


def damage(half: str, folder: Path, random: random.Random) -> str:
    """Something has happened to a file of the newest checkpoint; the one before is used, which the log says."""
    run = _interrupted(half, folder)
    newest, before = sorted(run.glob("checkpoints/step-*"))[:-3:-1]
    file = random.choice(sorted(newest.iterdir()))
    what = _damage(file, random)
    said = trainings(half).run(folder, *resume_words(half, run))
    if said["status"]:
        return f"{file.name} {what}: status {said['status']}: {said['out'][-400:]}"
    log = (run / "train.log").read_text()
    if f"{newest.name} is damaged" not in log or f"{before}" not in log:
        return f"{file.name} {what}: the log does not say so"
    wrong = differences(outcome(run), outcome(undisturbed(half).folder))
    return f"{file.name} {what}: {wrong}" if wrong else ""


def damage_everywhere(half: str, folder: Path, random: random.Random) -> str:
    """All checkpoints are damaged: one line, and nothing of the run is touched."""
    run = _interrupted(half, folder)
    for checkpoint in run.glob("checkpoints/step-*"):
        _damage(random.choice(sorted(checkpoint.iterdir())), random)
    before = _contents(run)
    said = trainings(half).run(folder, *resume_words(half, run))
    lines = said["out"].splitlines()
    if said["status"] != 2 or len(lines) != 1 or not lines[0].startswith("error: ") or "damaged" not in lines[0]:
        return f"no refusal: status {said['status']}, {said['out'][-400:]!r}"
    return "" if _contents(run) == before else "the refused continuation has changed the run"


def _interrupted(half: str, folder: Path) -> Path:
    """A run that was killed after its third checkpoint, of which it keeps two."""
    (folder / "disk").mkdir()
    run = folder / "disk" / "run"
    operation = saved_steps(undisturbed(half).folder.parents[1])[2][1] + 1
    trainings(half).run(
        folder, *fresh_words(half), "--output-dir", str(run), signal=signal.SIGKILL, operation=operation
    )
    return run


def _damage(file: Path, random: random.Random) -> str:
    content = bytearray(file.read_bytes())
    what = random.choice(["is cut", "has another bit", "is gone", "is a folder"])
    if what == "is cut":
        file.write_bytes(content[: random.randrange(len(content))])
    elif what == "has another bit":
        content[random.randrange(len(content))] ^= 1 << random.randrange(8)
        file.write_bytes(content)
    else:
        file.unlink()
        if what == "is a folder":
            file.mkdir()
    return what


# -- what must be so -------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=None)
def undisturbed(half: str, *more: str) -> Undisturbed:
    """Trained once for each process of tests."""
    folder = Path(tempfile.mkdtemp(prefix="faults-undisturbed-"))
    atexit.register(shutil.rmtree, str(folder), ignore_errors=True)
    run = folder / "disk" / "run"
    run.parent.mkdir()
    said = trainings(half).run(folder, *fresh_words(half), *more, "--output-dir", str(run))
    assert said["status"] == 0, said["out"]
    return Undisturbed(run, said["seconds"], saved_steps(folder)[-1][1])


def unreadable(run: Path) -> str:
    """Whichever checkpoint is there is whole."""
    for path in sorted(run.glob("checkpoints/step-*")):
        try:
            checkpoint_folder.find(path)
        except UsageError as error:
            return f"an unreadable checkpoint: {error}"
    return ""


def _forgotten(run: Path, step: int) -> str:
    """What the program held for saved is there."""
    if not step:
        return ""
    found = checkpoint_folder.find(run).state["progress"]["step"]
    return f"saved step {step}, found step {found}" if found < step else ""


def outcome(run: Path) -> Dict[str, Any]:
    """Everything that a run ends with and that must not depend on what has happened to it.

    The checksums of the checkpoints are those of weights, optimizer and random states.
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


def differences(run: Dict[str, Any], whole: Dict[str, Any]) -> str:
    """The names of what differs between two outcomes."""
    return ", ".join(f"{name} differ" for name in sorted({*run, *whole}) if run.get(name) != whole.get(name))


def _contents(folder: Path) -> Dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _both(name: str, run: Callable[..., str], *given: Any, **words: Any) -> List[Case]:
    return [Case(name, half, functools.partial(run, half, *given), **words) for half in (TF, TORCH)]


# The short form has what holds for the others too: what a power cut leaves is never more than what SIGKILL leaves.
CASES = [
    *_both("SIGKILL at any moment", a_signal, signal.SIGKILL, rounds=50, short=False),
    *_both("SIGTERM at any moment", a_signal, signal.SIGTERM, rounds=50, slow=True),
    *_both("power cut at any moment", a_power_cut, rounds=50, slow=True),
    *_both("the newest checkpoint is damaged", damage, rounds=12, short=False),
    *_both("all checkpoints are damaged", damage_everywhere, rounds=3, short=False),
]
