"""Fault cases, and which of them this Python can run."""

from __future__ import annotations

import importlib
import importlib.util
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, List, Sequence

# Modules of tests/faults/cases, each with a list CASES.
MODULES = ("crash", "ranks", "disk", "numbers", "processes", "fuzz", "hostile")
TF, TORCH, SHARED = "tf_seresnet", "torch_imagenet", "shared"


@dataclass(frozen=True)
class Case:
    """A fault, injected once per round into something new.

    `run(folder, rng)` gets an empty folder and the round's own generator. It returns "" if nothing was lost, else a
    line that says what; an exception is a loss, too. `rounds` is the number of rounds of `python -m tests.faults`.
    `quick`: pytest runs one round. `slow`: that round takes more than two seconds of processor time.
    """

    name: str
    half: str
    run: Callable[[Path, random.Random], str]
    rounds: int = 1
    quick: bool = True
    slow: bool = False


def halves_here() -> Sequence[str]:
    """The halves whose cases this Python runs: the CIFAR half and the shared cases if it has TensorFlow."""
    if importlib.util.find_spec("tensorflow") is not None:
        return (TF, SHARED)
    return (TORCH,)


def all_cases() -> Dict[str, List[Case]]:
    """The cases that this Python runs, by module."""
    found = {}
    for module in MODULES:
        cases = importlib.import_module(f"tests.faults.cases.{module}").CASES
        found[module] = [case for case in cases if case.half in halves_here()]
    return found


def run_round(case: Case, number: int, folder: Path) -> str:
    """The loss of one round, "" for none. A round is determined by its number."""
    folder.mkdir(parents=True)
    try:
        return case.run(folder, random.Random(f"{case.half} {case.name} {number}"))
    except Exception as error:  # any exception breaks the promise
        return f"{type(error).__name__}: {error}"
