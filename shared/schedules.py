"""The learning rate as a pure function of training progress, in epochs, zero-based and fractional.

All documented recipes change the rate only between epochs, so `Schedule.at` truncates progress to whole epochs unless
`every_step` is set.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Iterable, List, Tuple

from shared.errors import UsageError

KINDS = ("piecewise", "step", "exponential", "cosine")
_USED_BY = {
    **dict.fromkeys(("milestones", "factors"), ("piecewise",)),
    **{"period": ("step",), "factor": ("step", "exponential"), "minimum": ("cosine",)},
}


def piecewise(epoch: float, base: float, milestones: Tuple[int, ...], factors: Tuple[float, ...]) -> float:
    """`base` until the first milestone, then `base` times the factor of the last milestone that has been reached."""
    rate = base
    for milestone, factor in zip(milestones, factors):
        if epoch >= milestone:
            rate = base * factor
    return rate


def step(epoch: float, base: float, factor: float, period: int) -> float:
    """base * factor ** floor(epoch / period), for example 0.6 * 0.1 ** floor(E / 30)."""
    return base * factor ** math.floor(epoch / period)


def exponential(epoch: float, base: float, factor: float) -> float:
    """base * factor ** epoch, for example 0.6 * 0.93 ** E."""
    return base * factor**epoch


def cosine(epoch: float, base: float, epochs: float, minimum: float = 0.0) -> float:
    """Half a cosine from `base` to `minimum` over `epochs`; 0.3 * (1 + cos(E * pi / 120)) is base 0.6, epochs 120."""
    progress = min(max(epoch / epochs, 0.0), 1.0)
    return minimum + (base - minimum) * 0.5 * (1.0 + math.cos(math.pi * progress))


def warm_up(epoch: float, base: float, epochs: int) -> float:
    """Linear warm-up base * (epoch + 1) / (epochs + 1), that of the originals of SE-ResNet-50 and PNASNet."""
    return base * (epoch + 1) / (epochs + 1)


@dataclass(frozen=True)
class Schedule:
    """A learning-rate schedule. Fields that its kind does not use are ignored.

    During the first `warm_up_epochs` the rate rises linearly. Cosine then runs over the remaining epochs (the
    documented form); the other kinds count their milestones and periods from the start of training.
    Raises UsageError for an invalid value.
    """

    kind: str
    base: float
    epochs: int
    warm_up_epochs: int = 0
    milestones: Tuple[int, ...] = ()
    factors: Tuple[float, ...] = ()
    period: int = 30
    factor: float = 0.1
    minimum: float = 0.0
    every_step: bool = False

    def __post_init__(self) -> None:
        at = self.milestones
        for wrong, what in (
            (self.kind not in KINDS, f"unknown schedule {self.kind!r}; choose one of {', '.join(KINDS)}"),
            (not self.base > 0 or math.isinf(self.base), f"learning rate {self.base}; give a number above 0"),
            (self.epochs < 1, f"{self.epochs} epochs; give at least 1"),
            (self.warm_up_epochs < 0, f"{self.warm_up_epochs} warm-up epochs; give 0 or more"),
            (self.period < 1, f"a schedule period of {self.period} epochs; give at least 1"),
            (not 0 <= self.factor <= 1, f"a schedule factor of {self.factor}; give 0 to 1"),
            (not 0 <= self.minimum < math.inf, f"a smallest learning rate of {self.minimum}; give 0 or more"),
            (not all(0 <= f < math.inf for f in self.factors), f"factors {self.factors}; give numbers of 0 or more"),
            (
                len(at) != len(self.factors),
                f"{len(at)} milestones, {len(self.factors)} factors; give one factor for each",
            ),
            (list(at) != sorted(set(at)), f"milestones {at} are not in ascending order; sort them"),
            (min(at, default=0) < 0, f"milestones {at} before the first epoch; epochs count from 0"),
        ):
            if wrong:
                raise UsageError(what)

    def at(self, epoch: float) -> float:
        """The learning rate at this progress, in epochs from 0.0."""
        if not self.every_step:
            epoch = math.floor(epoch)
        if epoch < self.warm_up_epochs:
            return warm_up(epoch, self.base, self.warm_up_epochs)
        if self.kind == "piecewise":
            return piecewise(epoch, self.base, self.milestones, self.factors)
        if self.kind == "step":
            return step(epoch, self.base, self.factor, self.period)
        if self.kind == "exponential":
            return exponential(epoch, self.base, self.factor)
        remaining = max(self.epochs - self.warm_up_epochs, 1)
        return cosine(epoch - self.warm_up_epochs, self.base, remaining, self.minimum)

    def describe(self) -> str:
        """One line for the log and the tables, for example "0.01, 0.1 from epoch 2, 0.01 from epoch 80"."""
        # People count epochs from 1.
        parts = [f"{self.base * factor:g} from epoch {at + 1}" for at, factor in zip(self.milestones, self.factors)]
        text = {
            "piecewise": ", ".join([f"{self.base:g}", *parts]),
            "step": f"{self.base:g} x {self.factor:g}^floor(E/{self.period})",
            "exponential": f"{self.base:g} x {self.factor:g}^E",
            "cosine": f"cosine from {self.base:g} to {self.minimum:g}",
        }[self.kind]
        warm_up = f", {self.warm_up_epochs} warm-up epochs" if self.warm_up_epochs else ""
        return text + warm_up + (", changed every step" if self.every_step else "")

    def remarks(self) -> List[str]:
        """Lines about the parts of the schedule that lie beyond the end of the training."""
        lines, outside = [], f"beyond the {self.epochs} epochs of the run"
        if self.warm_up_epochs >= self.epochs:
            what = f"the warm-up of {self.warm_up_epochs} epochs does not end within the {self.epochs} of the run"
            lines.append(f"{what}, so the rate stays below {self.base:g}; shorten it with --warm-up-epochs")
        beyond = [milestone + 1 for milestone in self.milestones if milestone >= self.epochs]
        if self.kind == "piecewise" and beyond:
            what = f"the rate's changes at epochs {', '.join(map(str, beyond))} lie {outside}"
            lines.append(f"{what}; --scheduler cosine fits any length")
        if self.kind == "step" and 1 < self.epochs <= self.period:
            lines.append(
                f"the rate's first drop, at epoch {self.period + 1}, lies {outside}; --scheduler cosine fits any length"
            )
        return lines

    def without_effect(self, given: Iterable[str]) -> List[str]:
        """Lines about those of these fields that this kind of schedule does not use."""
        unused = [name for name in given if self.kind not in _USED_BY.get(name, KINDS)]
        return [
            f"--{name} has no effect on a schedule of the kind {self.kind}; it is of {' and '.join(_USED_BY[name])}"
            for name in unused
        ]

    def prolonged(self, before: Schedule, epoch: int) -> List[str]:
        """How the cosine, which depends on the number of epochs, differs from the zero-based `epoch` on from `before`.

        The first cosine epoch, and those of the warm-up before it, have the same rate whatever the number is.
        """
        first = next((one for one in range(epoch, self.epochs) if before.at(one) != self.at(one)), None)
        if first is None:
            return []
        what = f"over {self.epochs} epochs instead of {before.epochs} the rest of the cosine differs"
        rates = f"epoch {first + 1} has the learning rate {self.at(first):g} instead of {before.at(first):g}"
        return [f"{what}: {rates}; leave out --epochs to end as the run began"]
