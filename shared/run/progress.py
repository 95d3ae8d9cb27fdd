"""How far a run is: everything, besides the variables, that continuing it exactly needs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Callable, Optional

from shared.run.divergence import not_a_number


@dataclass
class Progress:
    """Counted in whole steps and images. Sums are Python floats, whose JSON form gives the same bits back.

    `epoch` is zero-based; `step_in_epoch` equals the steps of an epoch from its last one until its evaluation is done.
    """

    epoch: int = 0
    step_in_epoch: int = 0
    step: int = 0
    images: int = 0
    epoch_images: int = 0
    epoch_correct: int = 0
    epoch_correct5: int = 0  # among the five likeliest classes
    epoch_loss: float = 0.0
    best_epoch: Optional[int] = None
    best_top1: float = -1.0

    def begin_epoch(self) -> None:
        """Forget the sums of the epoch before."""
        self.epoch_images = self.epoch_correct = self.epoch_correct5 = 0
        self.epoch_loss = 0.0

    def count(self, loss: float, correct: int, images: int, correct5: int = 0, where: Callable[[], str] = str) -> None:
        """One more step with this mean loss. Raises UsageError, with `where`, when the loss is not a number."""
        self.step += 1
        self.step_in_epoch += 1
        if not math.isfinite(loss):
            raise not_a_number(f"the loss is {loss} at step {self.step}{where()}")
        self.images += images
        self.epoch_images += images
        self.epoch_correct += correct
        self.epoch_correct5 += correct5
        self.epoch_loss += loss * images

    @property
    def loss(self) -> float:
        """Mean cross-entropy of the epoch so far, over images: a short batch weighs what it holds."""
        return self.epoch_loss / self.epoch_images

    @property
    def top1(self) -> float:
        """Percent of the epoch's images classified correctly while training, before the step's update."""
        return 100.0 * self.epoch_correct / self.epoch_images

    @property
    def top5(self) -> float:
        """Percent of the epoch's images whose class was among the five likeliest; as `top1`, where it is counted."""
        return 100.0 * self.epoch_correct5 / self.epoch_images

    @property
    def evaluated_epoch(self) -> int:
        """The one-based epoch that an evaluation now is of; that of a finished run is its last one."""
        return self.epoch + (self.step_in_epoch > 0)

    def end_epoch(self) -> None:
        """The epoch's training and evaluation are done."""
        self.epoch += 1
        self.step_in_epoch = 0

    def is_best(self, top1: float) -> bool:
        """Whether this evaluation is strictly better than all before it; if so it is remembered."""
        if top1 <= self.best_top1:
            return False
        self.best_top1, self.best_epoch = top1, self.evaluated_epoch
        return True
