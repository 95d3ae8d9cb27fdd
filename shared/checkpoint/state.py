"""What `state.json` must say before a run goes on from it: a stranger's file is asked first and believed then.

Its checksums say that a checkpoint is what was written, not who wrote it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from shared.class_names import are_names
from shared.errors import UsageError
from shared.run.progress import Progress
from shared.system.strict_json import entries

_CELLS = 10_000  # of a clock's histogram: e^50 seconds


@dataclass(frozen=True)
class _Data:
    path: str
    fingerprint: str
    name: str = ""
    order: str = ""


@dataclass(frozen=True)
class _Device:
    kind: str
    count: int = 1


@dataclass(frozen=True)
class _Clock:
    steps: int
    images: int
    seconds: float
    waited: float
    seconds_observed: float
    longest: float
    shortest: Optional[float]
    cells: List[Tuple[int, int]]


def check_state(folder: Path, state: Dict[str, Any], **kinds: Any) -> Dict[str, Any]:
    """The entries of `kinds`, those of the half whose checkpoint is in `folder`, as their dataclasses.

    Raises UsageError where one of them, or of what both halves store, is missing or no such thing.
    """
    try:
        clock = entries(state, lenient=True, data=_Data, device=_Device, clock=_Clock)["clock"]
        found = entries(state, lenient=False, progress=Progress, **kinds)
        progress, most = found["progress"], max((abs(cell) for cell, _ in clock.cells), default=0)
        if most > _CELLS:
            raise ValueError(f"clock: a cell of {most}")
        for name in ("epoch", "step_in_epoch", "step", "images", "epoch_images", "epoch_correct", "epoch_correct5"):
            if name not in state["progress"] and not name.endswith("5"):  # which is not as old as the others
                raise ValueError(f"progress: no {name}")
            if getattr(progress, name) < 0:
                raise ValueError(f"progress: {name} is {getattr(progress, name)}")
        names = state["data"].get("classes")  # of before they were stored, or of shards without names: none
        if names is not None and not are_names(names, found["network"].num_classes):
            raise ValueError("data: classes")
        if not isinstance(state.get("arithmetic", {}), dict):
            raise ValueError("arithmetic")
        return found
    except ValueError as error:
        raise not_ours(folder, str(error)) from error


def not_ours(folder: Path, what: str) -> UsageError:
    """The error for a checkpoint that says what none of this version says."""
    return UsageError(f"{folder} is no checkpoint of this version ({what}); use another checkpoint")
