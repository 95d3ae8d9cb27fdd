"""What both halves log of an evaluation and of how a run was started, in events.jsonl and TensorBoard."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional

import numpy as np

from shared.metrics import Metrics
from shared.run.log import RunLog
from shared.run.tensorboard import HyperParameter


def log_evaluation(log: RunLog, step: int, metrics: Metrics, epoch: Optional[int] = None) -> None:
    """An evaluation of the weights after so many steps; in a training at the end of its one-based `epoch`."""
    means = {"loss": metrics.loss, "top1": metrics.top1, "top5": metrics.top5}
    values = {"images": metrics.images, **means, **({} if epoch is None else {"epoch": epoch})}
    tags = {f"eval/{name}": value for name, value in means.items()}
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
