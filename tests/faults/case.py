"""What a fault case is, and which of them this Python can run."""

from __future__ import annotations

import importlib
import importlib.util
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, List, Sequence

# tests/faults/cases/NAME, each with a list CASES.
MODULES = ("crash", "ranks", "disk", "numbers", "processes", "fuzz", "hostile")
TF, TORCH, SHARED = "tf_seresnet", "torch_imagenet", "shared"


@dataclass(frozen=True)
class Case:
    """One fault, done once per round to something fresh.

    `run(folder, random)` gets an empty folder and the round's own generator. It gives "" where nothing was lost and a
    line that says what was otherwise; an exception is a loss too. `rounds` are those of the long form. `short` says
    whether pytest runs a round of it, `slow` that this takes more than two seconds of processor time.
    """

    name: str
    half: str
    run: Callable[[Path, random.Random], str]
    rounds: int = 1
    short: bool = True
    slow: bool = False


def halves_here() -> Sequence[str]:
    """The halves whose cases this Python runs: a Python with TensorFlow those of the CIFAR half and the shared ones."""
    if importlib.util.find_spec("tensorflow") is not None:
        return (TF, SHARED)
    return (TORCH,)


def all_cases() -> Dict[str, List[Case]]:
    """The cases of the halves that this Python runs, by module."""
    found = {}
    for module in MODULES:
        cases = importlib.import_module(f"tests.faults.cases.{module}").CASES
        found[module] = [case for case in cases if case.half in halves_here()]
    return found


def one_round(case: Case, number: int, folder: Path) -> str:
    """What the round with this number has lost, "" for nothing. Equal numbers make equal rounds."""
    folder.mkdir(parents=True)
    try:
        return case.run(folder, random.Random(f"{case.half} {case.name} {number}"))
    except Exception as error:  # whatever it is, the promise was not kept
        return f"{type(error).__name__}: {error}"
