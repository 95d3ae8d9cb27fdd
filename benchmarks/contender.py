"""What takes part in a benchmark: it is set up once, and then runs rounds that are timed."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Any, Callable, Dict, NamedTuple, Tuple

PACKAGES = ("torch", "timm", "torchvision", "Pillow", "tensorflow", "tensorflow-cpu", "keras", "jax")  # of a record


class Contender(NamedTuple):
    """One side of a row, set up and ready."""

    run: Callable[[int], int]  # zero-based round, with warm-up -> images processed, of which it waits for the last
    what: str  # what it is, in one line
    processor_time: bool = False  # of one core in place of the clock's: other programs hardly count
    device: str = ""  # its name, where it is no CPU
    findings: Tuple[str, ...] = ()  # of a check: what it found wrong
    round_seconds: Callable[[], float] = lambda: 0.0  # what a round measured itself; 0: the clock's


class Ran(NamedTuple):
    """A round as the driver hears of it."""

    seconds: float
    images: int


def installed_versions() -> Dict[str, str]:
    """The versions of what is installed of `PACKAGES`, and Python's."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


Options = Dict[str, Any]  # of a contender: what JSON can hold
