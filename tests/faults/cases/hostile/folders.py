"""A run's folder from a stranger, with links and pipes in it: what --resume writes stays in it, or is not written."""

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

_PLACES = tuple(
    (
        "train.log events.jsonl config.json result.json tensorboard checkpoints checkpoints/last checkpoints/best "
        "checkpoints/STEP"
    ).split()
)


@functools.lru_cache(maxsize=None)
def interrupted(half: str) -> Path:
    """A run that has steps left, made once per process."""
    folder = Path(tempfile.mkdtemp(prefix="faults-interrupted-")) / "run"
    said = train(half, folder, "--max-steps", "2")
    if said.status != 0:
        raise RuntimeError(said.err)
    remove_at_exit(folder.parent)
    return folder


def a_strangers_run(half: str, folder: Path, random: random.Random) -> str:
    """One of the names in it is a link, to a file, to another run or to nothing, or is a pipe."""
    run, other = folder / "run", folder / "other"
    for target in (run, other):
        shutil.copytree(str(interrupted(half)), str(target), symlinks=True)
    what, before = _replace(run, other, random), _contents(other)
    given = random.choice([run, run / "checkpoints", run / "checkpoints" / "last"])
    said = train(half, random.choice([run, None]), "--resume", str(given), short=False)
    if _contents(other) != before or sorted(os.listdir(str(folder))) != ["other", "run"]:
        return f"{what}, --resume {given.name}: something is written outside the folder"
    if said.status == 0 and "Traceback" not in said.out:
        return ""
    return f"{what}, --resume {given.name}: {said.refused(';')}" if said.refused(";") else ""


def _replace(run: Path, other: Path, random: random.Random) -> str:
    name = random.choice(_PLACES).replace("STEP", os.readlink(str(run / "checkpoints" / "last")))
    place = run / name
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(str(place))
    elif os.path.lexists(str(place)):
        place.unlink()
    if random.random() < 0.2:
        os.mkfifo(str(place))
        return f"{name} is a pipe"
    target = other / random.choice([name, name, name, "nothing", "checkpoints", "train.log"])
    if random.random() < 0.5:
        target = Path(os.path.relpath(str(target), str(place.parent)))
    place.symlink_to(target)
    return f"{name} is a link to {target}"


def _contents(folder: Path) -> Dict[str, bytes]:
    """Of every file; a folder and a link as themselves."""
    found: Dict[str, bytes] = {}
    for path in sorted(folder.rglob("*")):
        plain = path.is_file() and not path.is_symlink()
        found[str(path)] = path.read_bytes() if plain else os.fsencode(os.path.realpath(str(path)))
    return found


CASES: List[Case] = [
    Case(
        "links and pipes in a stranger's run",
        half,
        functools.partial(a_strangers_run, half),
        rounds=rounds,
        short=half == TORCH,
    )
    for half, rounds in ((TF, 10), (TORCH, 40))
]
