"""Whether a loss scale still does its work, from how many steps it has left out because their gradients overflowed.

A dynamic scale starts high and comes down by leaving steps out; that is how it is meant to work (Micikevicius et al.,
"Mixed Precision Training", arXiv 1710.03740, section 3.2). One that goes on leaving out most steps, or a static one
under which no step is ever taken, trains nothing, and nothing else says so: the loss stays a number.
"""

from __future__ import annotations

from typing import Optional

from shared.errors import UsageError


class SkippedSteps:
    """Watches the steps of one run. `static` is the scale where it is a fixed one, None where it is dynamic.

    `window`: steps of which most have to be taken; more than twice what a dynamic scale leaves out until it fits.
    """

    def __init__(self, static: Optional[float], window: int) -> None:
        self._static, self._window = static, window
        self.start(0)

    def start(self, skipped: int) -> None:
        """Begin to watch, with so many steps left out before."""
        self._steps, self._skipped = 0, skipped  # at the beginning of the window

    def check(self, step: int, steps: int, skipped: int, ended: bool) -> None:
        """Raise UsageError where the scale has failed.

        `step`: the one just done, for the message; `steps` since `start`; `skipped` in all; `ended`: an epoch has.
        """
        steps_now, skipped_now = steps - self._steps, skipped - self._skipped
        full = steps_now >= self._window
        none_taken = self._static is not None and ended and 0 < steps_now == skipped_now
        if none_taken or (full and 2 * skipped_now > steps_now):
            raise overflowing(
                f"{skipped_now} of the last {steps_now} steps, up to step {step}, were left out", self._static
            )
        if full or (ended and self._static is not None):
            self._steps, self._skipped = steps, skipped


def overflowing(what: str, static: Optional[float]) -> UsageError:
    """The error for gradients that a loss scale cannot save."""
    if static is not None and static > 1:
        return UsageError(
            f"{what}: gradients overflow at the loss scale {static:g}; lower --loss-scale, or write --loss-scale"
            " dynamic"
        )
    return UsageError(
        f"{what}: gradients overflow whatever the loss scale; lower --learning-rate, or use --precision bf16 or O0, and"
        " start from the last good checkpoint with --checkpoint"
    )
