"""What is said of an evaluation: in the record and in one line."""

from __future__ import annotations

from typing import Any, Dict, Optional, Sequence

from shared.class_names import Match
from shared.metrics import Metrics


def as_record(metrics: Metrics, checkpoint: Optional[str] = None, skipped: int = 0) -> Dict[str, Any]:
    """The `evaluation` part of a record; `skipped` images could not be read."""
    return {
        "images": metrics.images,
        "skipped": skipped or None,
        "loss": metrics.loss,
        "top1": metrics.top1,
        "top5": metrics.top5,
        "checkpoint": checkpoint,
        "expected_calibration_error": metrics.expected_calibration_error,
        "reliability": metrics.reliability,
        "per_class_accuracy": metrics.per_class_accuracy,
        "confusion": metrics.confusion,
    }


def classes(found: Match, data: Sequence[str]) -> Dict[str, Any]:
    """Which classes the rows and columns of `confusion` and the entries of `per_class_accuracy` are.

    They are the network's, in its order; left out where that is the `data` set's.
    """
    return {
        "classes": list(found.names) if found.names != tuple(data) else None,
        "restricted": True if found.columns is not None else None,
    }


def summary(metrics: Metrics, skipped: int = 0) -> str:
    """One line with what was counted, percent and nats, and how many images could not be and were `skipped`."""
    left_out = f", {skipped} of {metrics.images + skipped} could not be read and are not counted" if skipped else ""
    return (
        f"test: top-1 {metrics.top1:.3f} % (error {100 - metrics.top1:.3f} %), top-5 {metrics.top5:.3f} %,"
        f" loss {metrics.loss:.4f} on {metrics.images} images{left_out}"
    )
