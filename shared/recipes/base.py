"""The base of both halves' recipes: fields, overrides, storage, resumption."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, ClassVar, Dict, Iterable, List, Optional, Sequence, Tuple, Type, TypeVar

from shared.errors import UsageError
from shared.schedules import Schedule
from shared.system.strict_json import typed
from shared.text import nearest

# Names that `override` passes on to the schedule, with the schedule's own.
IN_SCHEDULE = {
    "learning_rate": "base",
    "scheduler": "kind",
    **{name: name for name in ("warm_up_epochs", "milestones", "factors", "period", "factor", "minimum", "every_step")},
}

DECAYED = ("all", "weights")

R = TypeVar("R", bound="Recipe")


@dataclass(frozen=True)
class Recipe:
    """Everything that determines what a training run computes, apart from its data and its device."""

    name: str
    network: str
    epochs: int
    batch_size: int  # per device
    schedule: Schedule
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 1e-4  # times half the squared norm of the decayed weights, in the loss or as its gradient
    precision: str = "O0"
    loss_scale: Optional[str] = None  # "dynamic" or a number; None leaves it to the precision
    seed: int = 0
    steps_per_epoch: Optional[int] = None  # shortens every epoch; None is the whole training set
    decayed: str = "all"  # parameters with weight decay: all, or weights (without biases and norms)
    label_smoothing: float = 0.0
    mixup: float = 0.0  # alpha of its beta distribution; 0 is off
    cutmix: float = 0.0
    drop_path: float = 0.0  # rate of stochastic depth in the deepest block
    zero_init: bool = False  # residual branches start at zero
    ema_decay: Optional[float] = None  # of the moving average of the weights, which is evaluated; None or 0: none

    regularisation: ClassVar[Tuple[str, ...]] = (
        *("decayed", "label_smoothing", "mixup", "cutmix", "drop_path", "zero_init", "ema_decay"),
    )
    needed: ClassVar[Dict[str, Tuple[str, ...]]] = {}  # by field, others without all of which it has no effect

    @property
    def largest_rate(self) -> float:
        """The largest learning rate of the schedule; the first is small, or zero, where the recipe warms up."""
        return max(self.schedule.at(epoch) for epoch in range(self.epochs))

    def override(self: R, **changes: Any) -> R:
        """The same recipe with these fields replaced.

        The names in `IN_SCHEDULE` change the schedule, whose number of epochs follows the recipe's. Raises UsageError
        for an unknown field, with the nearest.
        """
        schedule_changes = {IN_SCHEDULE[key]: changes.pop(key) for key in list(changes) if key in IN_SCHEDULE}
        schedule_changes["epochs"] = changes.get("epochs", self.epochs)
        known = [field.name for field in dataclasses.fields(self)]
        for key in changes:
            if key not in known:
                raise UsageError(f"a recipe has no field {key!r}; {nearest(key, [*known, *IN_SCHEDULE])}")
        schedule = dataclasses.replace(changes.pop("schedule", self.schedule), **schedule_changes)
        return dataclasses.replace(self, schedule=schedule, **changes).checked()

    def resumed(self: R, overrides: Dict[str, Any], name: Optional[str] = None) -> R:
        """This recipe, of an interrupted run, for its continuation, in which only the number of epochs may change.

        `overrides` and the recipe's `name` are those of the command line. Raises UsageError if they contradict the run.
        """
        if name not in (None, self.name):
            raise contradiction("recipe", name, self.name)
        for field, value in overrides.items():
            if field != "epochs" and self.override(**{field: value}) != self:
                raise contradiction(field, value, getattr(self, field, self.schedule.describe()))
        return self.override(epochs=overrides.get("epochs", self.epochs))

    def differences(self, other: Recipe, fields: Sequence[str] = ()) -> List[str]:
        """As options, without dashes, those `fields` (default: all) in which this recipe differs from `other`."""
        names = fields or [field.name for field in dataclasses.fields(self)]
        return [as_typed(name, own)[2:] for name, own in self._values(names) if own != getattr(other, name, None)]

    def described(self) -> List[str]:
        """What is on besides the documented training, as options without dashes: "label-smoothing 0.1", "zero-init"."""
        found = self._values(self.regularisation)
        return [as_typed(name, own)[2:] for name, own in found if own and own != getattr(type(self), name)]

    def without_effect(self, given: Iterable[str]) -> List[str]:
        """Lines about the options, by their names in the namespace, that change nothing in this recipe."""
        lines = self.schedule.without_effect(given)
        for name in given:
            needed = self.needed.get(name, ())
            if needed and not any(getattr(self, other) for other in needed):
                options = " or ".join(f"--{other.replace('_', '-')}" for other in needed)
                lines.append(f"--{name.replace('_', '-')} has no effect without {options}")
        return lines

    def overwritten(self) -> List[str]:
        """Lines about what changes nothing where a run begins with given weights."""
        return ["zero-init has no effect, for the branches are the weights'"] if self.zero_init else []

    def _values(self, names: Sequence[str]) -> List[Tuple[str, Any]]:
        return [(name, getattr(self, name)) for name in names]

    def to_json(self) -> Dict[str, Any]:
        """The recipe for JSON; the inverse of `from_json`."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls: Type[R], content: Dict[str, Any]) -> R:
        """The recipe in `content`. Raises UsageError if it is not one of this version."""
        try:
            return typed(cls, content).checked()
        except ValueError as error:
            raise UsageError(f"the stored recipe cannot be read ({error}); train anew") from error

    def checked(self: R) -> R:
        """The recipe itself. Raises UsageError if a value is invalid."""
        for field, (valid, advice) in self.limits().items():
            if not valid:
                value = f"{getattr(self, field)!s:.60}"  # a stored one may be of any length
                raise UsageError(f"{field.replace('_', ' ')} {value} is not possible; give {advice}")
        return self

    def limits(self) -> Dict[str, Tuple[bool, str]]:
        """By field, whether its value is valid, and which values are. A half's recipe adds its own."""
        share = "0 or more and less than 1"
        alpha = "an alpha of 0 (off), or of 0.01 to 1e6"  # beyond it torch's float32 draws are not of the distribution
        return {
            "epochs": (self.epochs >= 1, "at least 1"),
            "schedule": (self.schedule.epochs == self.epochs, f"one of {self.epochs} epochs, as the training has"),
            "batch_size": (self.batch_size >= 1, "at least 1"),
            "momentum": (0 <= self.momentum < 1, "0 or more and less than 1"),
            "weight_decay": (0 <= self.weight_decay < math.inf, "0 or more"),
            "decayed": (self.decayed in DECAYED, f"one of {', '.join(DECAYED)}"),
            "label_smoothing": (0 <= self.label_smoothing < 1, share),
            "mixup": (self.mixup == 0 or 0.01 <= self.mixup <= 1e6, alpha),
            "cutmix": (self.cutmix == 0 or 0.01 <= self.cutmix <= 1e6, alpha),
            "drop_path": (0 <= self.drop_path < 1, share),
            "ema_decay": (0 <= (self.ema_decay or 0) < 1, "0 (off), or a number between 0 and 1"),
        }


def contradiction(option: str, value: Any, trained: Any) -> UsageError:
    """The error for an option, by its name in the namespace, that contradicts the resumed run."""
    return UsageError(
        f"{as_typed(option, value)} contradicts the run that is resumed, which has {trained!s:.200}; leave it out,"
        " or start a new run from its weights with --checkpoint"
    )


def as_typed(option: str, value: Any) -> str:
    """An option, by its name in the namespace, with its value as the command line has it."""
    name = option.replace("_", "-")
    return f"--{name} {value}" if not isinstance(value, bool) else f"--{name}" if value else f"--no-{name}"
