"""What may differ between a run and its continuation: refused where it would be another run, else a line in the log."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional

from shared.class_names import Classes
from shared.errors import UsageError
from shared.imagenet.layout import some

# How to restore a setting that changes rounding.
_REMEDIES = {
    "threads": "start with OMP_NUM_THREADS={0} (TensorFlow: TF_NUM_INTRAOP_THREADS={0}, JAX: NPROC={0})",
    "memory_format": "give --memory-format {0}",
    "onednn": "start with TF_ENABLE_ONEDNN_OPTS={0:d}",
    "grouped_conv": "give --grouped-conv {0}",
    "rounded_float32_layers": "give --tf32, --no-tf32 or neither, as then",
    "revision_of_the_step": "where that matters, continue it with the version of this program that began it",
}
_DEFAULT_REMEDY = "where that matters, restore the earlier setting"


def check_same_data(stored: Dict[str, Any], fingerprint: str, classes: Classes, path: str) -> None:
    """Raise UsageError unless the data set at `path` has the fingerprint and the classes of a state's `data`."""
    what, before, now = "", stored.get("classes"), classes.names
    if fingerprint == stored["fingerprint"]:
        if before is None or not classes.named or tuple(before) == now:
            return
        changes = [
            f"{index} is {new:.60} and was {old!s:.60}"
            for index, (old, new) in enumerate(zip(before, now))
            if old != new
        ]
        what = f", its classes are others ({some(changes or [f'{len(now)} and were {len(before)}'])})"
    remedy = "give that one with --data-path, or start a new run with --checkpoint"
    raise UsageError(f"{path} is not the data set that the run was trained on{what}; {remedy}")


def refuse_less(progress: Dict[str, Any], epochs: Optional[int], max_steps: Optional[int]) -> None:
    """Raise UsageError where a run that is so far is to be continued to an end that lies behind it."""
    begun = progress["epoch"] + (progress["step_in_epoch"] > 0)
    ends = ("--epochs", epochs, begun, "epoch"), ("--max-steps", max_steps, progress["step"], "step")
    for option, end, done, what in ends:
        if end is not None and end < done:
            wrong = f"the run is in {what} {done} already and {option} {end} lies before that"
            raise UsageError(f"{wrong}; give {option} {done} or more, or evaluate it with the mode evaluate")


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> Dict[str, Any]:
    """The settings of a state's `arithmetic` that are others now, by name, as they were.

    One missing on a side is skipped. Without a revision of the step it is the first one.
    """
    before = {"revision_of_the_step": 1, **before} if before else {}
    return {name: before[name] for name in sorted(before.keys() & now.keys()) if before[name] != now[name]}


def changes_of_speed(state: Mapping[str, Any], constant: Mapping[str, Any]) -> Dict[str, Any]:
    """What decides how long a step takes, in `arithmetic` and `speed`, and is another now; as `changes`."""
    before, now = ({**(each.get("arithmetic") or {}), **each.get("speed", {})} for each in (state, constant))
    return changes(before, now)


def remarks(state: Mapping[str, Any], constant: Mapping[str, Any]) -> List[str]:
    """Lines about what is another in `constant`, which a checkpoint made now has, than in the state of a run so far."""
    lines = rounding_changes(state.get("arithmetic") or {}, constant["arithmetic"])
    changed = ", ".join(name.replace("_", " ") for name in changes_of_speed(state, constant))
    return [*lines, f"throughput is that of the steps from here on; changed: {changed}"] if changed else lines


def rounding_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> List[str]:
    """A line for each of the `changes`, all of which are of the order of additions."""
    effect = "changes floating-point rounding: it will not be bit-identical to an uninterrupted run"
    return [
        f"the run continues with {name.replace('_', ' ')} {now[name]} and had {earlier} before, which {effect};"
        f" {_REMEDIES.get(name, _DEFAULT_REMEDY).format(earlier)}"
        for name, earlier in changes(before, now).items()
    ]
