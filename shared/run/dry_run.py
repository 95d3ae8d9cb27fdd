"""What --dry-run says besides the first lines of a run's log: counts, settings, estimates, and where files would go.

Estimates are bounds from below. A step takes at least the time of its arithmetic, and of its memory traffic, at the
device's peaks (`shared.roofline`). It keeps the weights, their momentum and their average, in float32, and needs at
least the memory of the larger of two: the gradients, at the end of the backward pass, and the outputs of convolutions
and fully connected layers at its beginning.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, List, Mapping, Optional

from shared.roofline import NetworkCost, element_bytes
from shared.run.folder import would_be_written
from shared.run.plan import Plan

_LAST = "dry run: nothing was run or written; without --dry-run this begins"
_WEIGHTS = 4  # bytes of one in float32
_SHOWN_ELSEWHERE = ("name", "network", "epochs", "schedule", "devices")


def images(train: Optional[int], evaluated: int, classes: int) -> str:
    """The counts of the data set; `train` is None where nothing is trained."""
    trained = "" if train is None else f"{train:,} to train on, "
    return f"images: {trained}{evaluated:,} to evaluate on, {classes:,} classes"


def training(recipe: Mapping[str, Any], plan: Plan, done: int, cost: NetworkCost, precision: str) -> List[str]:
    """The settings, `Recipe.to_json`, the steps that are left after `done`, and the estimates of a device."""
    given = {name: value for name, value in recipe.items() if value not in (None, (), [])}
    settings = [f"{name} {value}" for name, value in given.items() if name not in _SHOWN_ELSEWHERE]
    left = max(plan.total_steps - done, 0)
    weights, frozen = _WEIGHTS * cost.parameters, bool(recipe.get("freeze_body"))
    kept = weights * (1 + (recipe["momentum"] > 0 and not frozen) + bool(recipe.get("ema_decay")))
    outputs = cost.activations * recipe["batch_size"] * element_bytes(precision)
    passing = 0 if frozen else max(weights, outputs)
    lines = [
        f"settings: {', '.join(settings)}",
        f"steps: {left:,}" + (f" of {plan.total_steps:,}, {done:,} are done" if done else ""),
        f"estimate: at least {_gib(kept + passing)} of memory a device, {_gib(kept)} of it kept from step to step",
    ]
    if plan.roofline_seconds is None:
        return [*lines, "estimate: no time without --peak-flops and --memory-bandwidth, the device's peaks"]
    seconds = plan.roofline_seconds
    whole = f"{seconds * left / 3600:.2f} hours" if seconds * left > 360 else f"{seconds * left:.1f} s"
    return [*lines, f"estimate: at least {1000 * seconds:.3f} ms a step and {whole} of training, by the roofline"]


def evaluation(batches: int, batch_size: int, parameters: int) -> List[str]:
    """The batches of an evaluation on one device, and the estimate of its memory."""
    weights = _gib(_WEIGHTS * parameters)
    return [f"steps: {batches:,} of {batch_size:,} images a device", f"estimate: at least {weights} of memory, weights"]


def ends(half: str, config: Any, resumed: Optional[Path] = None) -> List[str]:
    """The last lines: the folder that would be written. Raises UsageError for one that cannot be."""
    return [would_be_written(half, config.mode, config.output_dir, resumed), _LAST]


def _gib(size: float) -> str:
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 / 10 else f"{size / 2**20:.1f} MiB"
