"""What both halves log of a run, under one set of names: of a step, of an evaluation, and of how it was started.

events.jsonl has short names, TensorBoard the tags below, and the progress bar the few numbers that are watched.
"""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional

import numpy as np

from shared.metrics import Metrics
from shared.run.log import RunLog
from shared.run.progress import Progress
from shared.run.tensorboard import HyperParameter

# TensorBoard's tag of what `Clock.window` calls so.
_SPEED = {
    "images_per_second": "throughput/images_per_second",
    "step_ms_p50": "throughput/step_ms",
    "data_wait_share": "throughput/data_wait_share",
}


def log_step(
    log: RunLog,
    line: str,
    progress: Progress,
    epochs: int,
    learning_rate: float,
    step_loss: float,
    speed: Mapping[str, Any],
    **more: Any,
) -> None:
    """The step that `progress` has just counted, with its own `line`; `more` goes to events.jsonl alone."""
    values = {
        "epoch": progress.epoch + 1,
        "loss": progress.loss,
        "step_loss": step_loss,
        "top1": progress.top1,
        "top5": progress.top5,
        "learning_rate": learning_rate,
        **more,
        **speed,
    }
    tags = {f"train/{name}": values[name] for name in ("loss", "top1", "top5", "learning_rate")}
    tags.update((tag, speed[name]) for name, tag in _SPEED.items() if name in speed)
    log.event("step", progress.step, values, tags)
    log.line(line)  # behind the event: where nobody reads it, the run stops here
    watched = {"loss": f"{progress.loss:.3f}", "top1": f"{progress.top1:.1f}%"}
    if speed:
        watched["images/s"] = f"{speed['images_per_second']:.4g}"
    if "data_wait_share" in speed:
        watched["data wait"] = f"{100 * speed['data_wait_share']:.0f}%"
    log.advance_bar(f"epoch {progress.epoch + 1}/{epochs}", watched)


def log_evaluation(log: RunLog, step: int, metrics: Metrics, epoch: Optional[int] = None) -> None:
    """An evaluation of the weights after so many steps; in a training at the end of its one-based `epoch`."""
    accuracies = {"loss": metrics.loss, "top1": metrics.top1, "top5": metrics.top5}
    values = {"images": metrics.images, **accuracies}
    if epoch is not None:
        values["epoch"] = epoch
    tags = {f"eval/{name}": value for name, value in accuracies.items()}
    log.event("evaluation", step, values, tags, {"eval/confusion": picture(metrics.confusion)})


def log_start(log: RunLog, recipe: Mapping[str, Any], **more: Any) -> None:
    """The recipe, as `Recipe.to_json` gives it, and what else was decided, as TensorBoard's hyper-parameters."""
    log.hyper_parameters(dict(_flat({**recipe, **more})))


def _flat(values: Mapping[str, Any], prefix: str = "") -> Dict[str, HyperParameter]:
    """Numbers, truths and texts; a nested name is schedule.base, a list a text; what is not set is left out."""
    flat: Dict[str, HyperParameter] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{name}."))
        elif isinstance(value, (list, tuple)):
            flat[prefix + name] = " ".join(map(str, value))
        elif value is not None:
            flat[prefix + name] = value
    return flat


_SIDE = 320  # pixels at least; a thousand classes have one pixel a cell
_RIGHT, _WRONG = np.array([37, 99, 235]), np.array([226, 87, 43])  # the page's accent and its counterpart


def picture(confusion: np.ndarray) -> np.ndarray:
    """Pixels uint8 [S, S, 3] of counts int64 [K, K], row = label, column = answer, from the top left.

    The darker a cell, the larger its share of the label's images; blue on the diagonal, orange elsewhere.
    """
    classes = len(confusion)
    share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    colour = np.where(np.eye(classes, dtype=bool)[:, :, None], _RIGHT, _WRONG)
    cells = np.rint(255 - share[:, :, None] * (255 - colour)).astype(np.uint8)
    size = -(-_SIDE // classes)
    return cells.repeat(size, axis=0).repeat(size, axis=1)
