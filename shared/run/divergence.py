"""Numbers that have left the range of floating point: weights, losses, logits, and gradients at any loss scale.

A run with such numbers has no result. It ends with a `UsageError` before they are written to a checkpoint or a record,
so that the last checkpoint is a good one.
"""

from __future__ import annotations

from typing import Any, Iterable, Optional, Tuple

import numpy as np

from shared.errors import UsageError
from shared.metrics import Metrics

Named = Tuple[str, Any]  # a tensor's name, and its values as a NumPy array
_START = "start from the last good checkpoint with --checkpoint"


def not_a_number(what: str) -> UsageError:
    """The error for a training whose numbers are not finite."""
    return UsageError(f"{what}; lower --learning-rate or raise --warm-up-epochs, and {_START}")


def first_not_finite(tensors: Iterable[Named]) -> str:
    """The tensors that are not finite, as in " (layer1.bn.running_mean first, 3 tensors in all)"; "" if there are none.

    `tensors` are the statistics in the order of computation, then the weights, all of which a backward pass affects.
    """
    names = [name for name, values in tensors if not np.isfinite(values).all()]
    return f" ({names[0]} first, {len(names)} tensors in all)" if names else ""


def with_ranges(layer: str, tensors: Iterable[Named]) -> str:
    """The layer with the range of each of its tensors, as in "bn (running_mean -3e+38 to 2, ...)"."""
    ranges = [f"{name} {np.min(values):.3g} to {np.max(values):.3g}" for name, values in tensors]
    return f"{layer} ({', '.join(ranges)})" if ranges else layer


def check_evaluation(metrics: Metrics, data: str, layer: Optional[str], training: bool) -> None:
    """Raise UsageError if an evaluation of `data` has no result; `layer` is the first that is not finite, if known.

    `training`: the weights are those of a training run, which has a last good checkpoint.
    """
    if not metrics.images:
        raise UsageError(f"no image of {data} could be read; look at check-data")
    if metrics.non_finite:
        what = f"the logits of {metrics.non_finite} of {metrics.images} images are not finite"
        what += f", from {layer} on" if layer else ""
        if training:
            raise not_a_number(what)
        what += "; these weights have diverged"
        raise UsageError(f"{what}, evaluate others with --checkpoint, or use --precision O0")


class SkippedSteps:
    """Counts the steps of a run that are skipped because gradients overflow. `static` is the scale, None if dynamic.

    A dynamic scale starts high and skips steps until it fits (Micikevicius et al., "Mixed Precision Training", arXiv
    1710.03740, section 3.2). One that keeps skipping trains nothing, although the loss stays finite: at least half of
    every `window` steps, more than twice the number that it skips until it fits, must be taken.
    """

    def __init__(self, static: Optional[float], window: int) -> None:
        self._static, self._window = static, window
        self.start(0)

    def start(self, skipped: int) -> None:
        """Start a window; `skipped` steps were skipped before."""
        self._steps, self._skipped = 0, skipped  # at the start of the window

    def check(self, step: int, steps: int, skipped: int, ended: bool) -> None:
        """Raise UsageError if the scale has failed at this `step` of the run, which may have `ended` an epoch.

        `steps` counts from `start`, `skipped` from the beginning of the run.
        """
        steps_now, skipped_now = steps - self._steps, skipped - self._skipped
        full = steps_now >= self._window
        none_taken = self._static is not None and ended and 0 < steps_now == skipped_now
        if none_taken or (full and 2 * skipped_now > steps_now):
            what = f"{skipped_now} of the last {steps_now} steps, up to step {step}, were skipped"
            raise overflowing(what, self._static)
        if full or (ended and self._static is not None):
            self._steps, self._skipped = steps, skipped


def overflowing(what: str, static: Optional[float]) -> UsageError:
    """The error for gradients that overflow at any usable loss scale."""
    if static is not None and static > 1:
        scale = f"at the loss scale {static:g}; lower --loss-scale, or write --loss-scale dynamic"
        return UsageError(f"{what}: gradients overflow {scale}")
    what += ": gradients overflow whatever the loss scale"
    return UsageError(f"{what}; lower --learning-rate, or use --precision bf16 or O0, and {_START}")
