"""Validation of `state.json`, which may be a stranger's: its checksums say what was written, not who wrote it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from shared.class_names import are_names
from shared.errors import UsageError
from shared.run.progress import Progress
from shared.system.strict_json import COUNT, NUMBER, TEXT, TIME, check, typed

_PROGRESS = "epoch step_in_epoch step images epoch_images epoch_correct epoch_correct5".split()
# What both halves store. `data.classes` is absent in older checkpoints, and null for shards without class names.
_SHAPE: Dict[str, Any] = {
    "data": {"path": str, "fingerprint": str, "name": str, "order": str},
    "device": {"kind": str, "count": COUNT},
    "arithmetic": dict,
    "speed": dict,  # absent in older checkpoints
    "clock": {
        **dict.fromkeys(("steps", "images"), COUNT),
        **dict.fromkeys(("seconds", "waited", "seconds_observed", "longest"), NUMBER),
        "shortest": Optional[float],
        "cells": List[Tuple[int, int]],
    },
    "progress": dict.fromkeys(_PROGRESS, COUNT),
    # Absent in older checkpoints; see `shared.run.history`.
    "history": {
        **{"commit": TEXT, "started": TIME, "seconds": NUMBER},
        **dict.fromkeys(("begun_on", "earlier_commits"), List[str]),
    },
}
_REQUIRED = ["data.path", "data.fingerprint", "device.kind", *(f"clock.{key}" for key in _SHAPE["clock"])]
_REQUIRED += [f"progress.{key}" for key in _PROGRESS if key != "epoch_correct5"]  # absent in older checkpoints
_LARGEST_CELL = 10_000  # of a clock's histogram: e^50 seconds


def check_state(folder: Path, state: Dict[str, Any], **kinds: Any) -> Dict[str, Any]:
    """The entries of a checkpoint's state that are named in `kinds`, as these dataclasses.

    Raises UsageError where one of them, or an entry that both halves store, is missing or invalid.
    """
    try:
        check(state, _SHAPE, (*_REQUIRED, *kinds), lenient=True)
        found = {name: typed(kind, state[name], name) for name, kind in kinds.items()}
        typed(Progress, state["progress"], "progress")
        if any(abs(cell) > _LARGEST_CELL for cell, _ in state["clock"]["cells"]):
            raise ValueError("clock.cells is out of range")
        names = state["data"].get("classes")
        if names is not None and not are_names(names, found["network"].num_classes):
            raise ValueError("data.classes does not name the network's classes")
        return found
    except ValueError as error:
        raise not_ours(folder, str(error)) from error


def not_ours(folder: Path, what: str) -> UsageError:
    """The error for a checkpoint whose state no version up to this one writes; `what` is invalid."""
    return UsageError(f"{folder} is no checkpoint of this version ({what}); use another checkpoint")
