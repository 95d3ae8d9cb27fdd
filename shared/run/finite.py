"""Detection of weights, losses and logits that are not finite.

A run with such numbers has no result. It ends with a `UsageError` before they are written to a checkpoint or a record,
so that the last checkpoint is a good one.
"""

from __future__ import annotations

from typing import Any, Iterable, Optional, Tuple

import numpy as np

from shared.errors import UsageError
from shared.metrics import Metrics
from shared.run.progress import not_a_number

Named = Tuple[str, Any]  # a tensor's name, and its values as a NumPy array


def first_not_finite(tensors: Iterable[Named]) -> str:
    """The tensors that are not finite, as in " (layer1.bn.running_mean first, 3 tensors in all)"; "" if there are none.

    `tensors` are the statistics in the order of computation, then the weights: a forward pass affects the statistics
    from the faulty layer on, the backward pass after it all weights.
    """
    names = [name for name, values in tensors if not np.isfinite(values).all()]
    return f" ({names[0]} first, {len(names)} tensors in all)" if names else ""


def with_ranges(layer: str, tensors: Iterable[Named]) -> str:
    """The layer with the range of each of its tensors, as in "bn (running_mean -3e+38 to 2, ...)"."""
    ranges = [f"{name} {np.min(values):.3g} to {np.max(values):.3g}" for name, values in tensors]
    return f"{layer} ({', '.join(ranges)})" if ranges else layer


def check_evaluation(metrics: Metrics, data: str, layer: Optional[str], training: bool) -> None:
    """Raise UsageError if an evaluation of `data` has no result.

    `layer` is the first one whose output is not finite, if known; `training` is whether the weights are those of a
    training run, which has a last good checkpoint.
    """
    if not metrics.images:
        raise UsageError(f"no image of {data} could be read; look at check-data")
    if not metrics.non_finite:
        return
    what = f"the logits of {metrics.non_finite} of {metrics.images} images are not finite"
    what += f", from {layer} on" if layer else ""
    if training:
        raise not_a_number(what)
    raise UsageError(f"{what}; these weights have diverged, evaluate others with --checkpoint, or use --precision O0")
