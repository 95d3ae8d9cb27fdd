"""An untrusted run's folder with links and pipes in it: --resume writes nothing outside it."""

from __future__ import annotations

import functools
import os
import random
import shutil
import tempfile
from pathlib import Path
from typing import Dict, List

from tests.faults.case import TF, TORCH, Case
from tests.faults.commands import remove_at_exit, train

_NAMES = tuple(
    (
        "train.log events.jsonl config.json result.json tensorboard checkpoints checkpoints/last checkpoints/best "
        "checkpoints/STEP"
    ).split()
)


@functools.lru_cache(maxsize=None)
def interrupted(half: str) -> Path:
    """An unfinished run, trained once per process."""
    folder = Path(tempfile.mkdtemp(prefix="faults-interrupted-")) / "run"
    result = train(half, folder, "--max-steps", "2")
    if result.status != 0:
        raise RuntimeError(result.err)
    remove_at_exit(folder.parent)
    return folder


def untrusted_run(half: str, folder: Path, rng: random.Random) -> str:
    """One of the names in it is a pipe or a link: to a file, to another run or to nothing."""
    run, other = folder / "run", folder / "other"
    for target in (run, other):
        shutil.copytree(str(interrupted(half)), str(target), symlinks=True)
    what, before = _replace(run, other, rng), _contents(other)
    path = rng.choice([run, run / "checkpoints", run / "checkpoints" / "last"])
    result = train(half, rng.choice([run, None]), "--resume", str(path), defaults=False)
    if _contents(other) != before or sorted(os.listdir(str(folder))) != ["other", "run"]:
        return f"{what}, --resume {path.name}: something is written outside the folder"
    if result.status == 0 and "Traceback" not in result.out:
        return ""
    return f"{what}, --resume {path.name}: {result.missing_refusal(';')}" if result.missing_refusal(";") else ""


def _replace(run: Path, other: Path, rng: random.Random) -> str:
    name = rng.choice(_NAMES).replace("STEP", os.readlink(str(run / "checkpoints" / "last")))
    target = run / name
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(str(target))
    elif os.path.lexists(str(target)):
        target.unlink()
    if rng.random() < 0.2:
        os.mkfifo(str(target))
        return f"{name} is a pipe"
    linked = other / rng.choice([name, name, name, "nothing", "checkpoints", "train.log"])
    if rng.random() < 0.5:
        linked = Path(os.path.relpath(str(linked), str(target.parent)))
    target.symlink_to(linked)
    return f"{name} is a link to {linked}"


def _contents(folder: Path) -> Dict[str, bytes]:
    """The content of every file, and the path of every folder and link target."""
    found: Dict[str, bytes] = {}
    for path in sorted(folder.rglob("*")):
        plain = path.is_file() and not path.is_symlink()
        found[str(path)] = path.read_bytes() if plain else os.fsencode(os.path.realpath(str(path)))
    return found


CASES: List[Case] = [
    Case(
        "links and pipes in a stranger's run",
        half,
        functools.partial(untrusted_run, half),
        rounds=rounds,
        quick=half == TORCH,
    )
    for half, rounds in ((TF, 10), (TORCH, 40))
]
