"""Numbers that have left the range of floating point: in which layer, and how every mode of both halves ends on them.

A run whose weights, loss or answers are not finite has no result. It ends with a `UsageError`, before a checkpoint or a
record of these numbers is written: the last good checkpoint stays the last one.
"""

from __future__ import annotations

from typing import Any, Iterable, Optional, Tuple

import numpy as np

from shared.errors import UsageError
from shared.metrics import Metrics
from shared.run.progress import not_a_number

Named = Tuple[str, Any]  # a tensor's name, and its values as a NumPy array


def first_not_finite(tensors: Iterable[Named]) -> str:
    """Which tensors are not finite, as in " (layer1.bn.running_mean first, 3 tensors in all)"; "" where all are.

    Give the statistics in the order of computation, then the weights: a forward pass spoils the statistics of the
    layers behind the faulty one and no others, the backward pass after it all weights.
    """
    names = [name for name, values in tensors if not np.isfinite(values).all()]
    return f" ({names[0]} first, {len(names)} tensors in all)" if names else ""


def with_ranges(layer: str, tensors: Iterable[Named]) -> str:
    """The layer with the range of each of its own tensors, as in "bn (running_mean -3e+38 to 2, ...)"."""
    ranges = [f"{name} {np.min(values):.3g} to {np.max(values):.3g}" for name, values in tensors]
    return f"{layer} ({', '.join(ranges)})" if ranges else layer


def check_evaluation(metrics: Metrics, data: str, layer: Optional[str], training: bool) -> None:
    """Raise UsageError where an evaluation of `data` has no result.

    `layer` is the first whose output is not finite, where this process knows it; `training`: the weights are those of
    a training run, which has a last good checkpoint.
    """
    if not metrics.images:
        raise UsageError(f"no image of {data} could be read; look at check-data")
    if not metrics.non_finite:
        return
    what = f"the network's answers to {metrics.non_finite} of {metrics.images} images are not numbers"
    what += f", from {layer} on" if layer else ""
    if training:
        raise not_a_number(what)
    raise UsageError(f"{what}; these weights have diverged, evaluate others with --checkpoint, or use --precision O0")
