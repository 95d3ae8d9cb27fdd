"""Detects a loss scale that fails: most steps are skipped because their gradients overflow.

A dynamic scale starts high and skips steps until it fits (Micikevicius et al., "Mixed Precision Training", arXiv
1710.03740, section 3.2). One that keeps skipping most steps, or a static one that skips all, trains nothing, although
the loss stays finite.
"""

from __future__ import annotations

from typing import Optional

from shared.errors import UsageError


class SkippedSteps:
    """Counts the skipped steps of a run. `static` is the scale, or None for a dynamic one.

    At least half of every `window` steps must be taken; it is more than twice the number of steps that a dynamic scale
    skips until it fits.
    """

    def __init__(self, static: Optional[float], window: int) -> None:
        self._static, self._window = static, window
        self.start(0)

    def start(self, skipped: int) -> None:
        """Start a window; `skipped` steps were skipped before."""
        self._steps, self._skipped = 0, skipped  # at the start of the window

    def check(self, step: int, steps: int, skipped: int, ended: bool) -> None:
        """Raise UsageError if the scale has failed.

        `step` is the number of the last step, for the message; `steps` counts from `start`, `skipped` from the
        beginning of the run; `ended` is whether an epoch has ended.
        """
        steps_now, skipped_now = steps - self._steps, skipped - self._skipped
        full = steps_now >= self._window
        none_taken = self._static is not None and ended and 0 < steps_now == skipped_now
        if none_taken or (full and 2 * skipped_now > steps_now):
            raise overflowing(
                f"{skipped_now} of the last {steps_now} steps, up to step {step}, were skipped", self._static
            )
        if full or (ended and self._static is not None):
            self._steps, self._skipped = steps, skipped


def overflowing(what: str, static: Optional[float]) -> UsageError:
    """The error for gradients that overflow at any usable loss scale."""
    if static is not None and static > 1:
        return UsageError(
            f"{what}: gradients overflow at the loss scale {static:g}; lower --loss-scale, or write --loss-scale"
            " dynamic"
        )
    return UsageError(
        f"{what}: gradients overflow whatever the loss scale; lower --learning-rate, or use --precision bf16 or O0, and"
        " start from the last good checkpoint with --checkpoint"
    )
