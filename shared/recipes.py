"""The documented rows as frozen, typed recipes. `--recipe NAME` picks one; any option overrides a field of it.

Each recipe is a function whose docstring states the command, the hours and the result that its document claims. What
the originals' code did differently from their documents is said there too.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from dataclasses import dataclass
from typing import Any, Callable, Dict, Optional, Tuple

from shared.errors import UsageError
from shared.schedules import Schedule


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a training run computes, apart from its data and its device."""

    name: str
    network: str
    epochs: int
    batch_size: int  # per device
    schedule: Schedule
    depth: int = 110
    variant: str = "port"
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 1e-4  # times half the squared norm of every trainable variable, BN and biases included
    precision: str = "O0"
    loss_scale: Optional[str] = None  # "dynamic" or a number; None leaves it to the precision
    crop_padding: int = 4  # pixels of the training mean around the image before the random crop
    flip: bool = True
    seed: int = 0
    steps_per_epoch: Optional[int] = None  # shortens every epoch; None is the whole training set

    def override(self, **changes: Any) -> Recipe:
        """The same recipe with these fields replaced.

        `learning_rate`, `scheduler`, `warm_up_epochs`, `milestones` and `factors` reach into the schedule, and its
        number of epochs follows the recipe's. Raises UsageError for a field that does not exist, with the nearest.
        """
        in_schedule = {"learning_rate": "base", "scheduler": "kind"}
        in_schedule.update({name: name for name in ("warm_up_epochs", "milestones", "factors", "minimum")})
        schedule_changes = {in_schedule[key]: changes.pop(key) for key in list(changes) if key in in_schedule}
        schedule_changes["epochs"] = changes.get("epochs", self.epochs)
        known = [field.name for field in dataclasses.fields(self)]
        for key in changes:
            if key not in known:
                raise UsageError(f"a recipe has no field {key!r}; {nearest(key, [*known, *in_schedule])}")
        schedule = dataclasses.replace(changes.pop("schedule", self.schedule), **schedule_changes)
        return dataclasses.replace(self, schedule=schedule, **changes).checked()

    def to_json(self) -> Dict[str, Any]:
        """The recipe as JSON holds it; `from_json` gives the same recipe back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, content: Dict[str, Any]) -> Recipe:
        """Raises UsageError where `content` is not a recipe of this version."""
        try:
            fields = dict(content["schedule"])
            for name in ("milestones", "factors"):
                fields[name] = tuple(fields[name])
            return cls(**dict(content, schedule=Schedule(**fields))).checked()
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"the stored recipe cannot be read ({error}); train anew") from error

    def checked(self) -> Recipe:
        """Itself, if its numbers make sense; raises UsageError otherwise."""
        for wrong, what in (
            (self.epochs < 1, f"{self.epochs} epochs; give at least 1"),
            (self.batch_size < 1, f"a batch size of {self.batch_size}; give at least 1"),
            (not 0 <= self.momentum < 1, f"a momentum of {self.momentum}; give 0 or more and less than 1"),
            (not 0 <= self.weight_decay < math.inf, f"a weight decay of {self.weight_decay}; give 0 or more"),
        ):
            if wrong:
                raise UsageError(what)
        return self


def se_resnet110_npu() -> Recipe:
    """SE-ResNet-110 (port) on CIFAR-10, one Ascend 910, automatic mixed precision.

    Command:    bash run_npu.sh --data-path CIFAR
    Hours:      about 8 documented (160 epochs of 391 steps at the documented 91 ms would be 1.6)
    Documented: top-1 error 5.45 %, 91 ms a step
    """
    return dataclasses.replace(_se_resnet110(), name="se_resnet110_npu", precision="O1", loss_scale="dynamic")


def se_resnet110_gpu() -> Recipe:
    """SE-ResNet-110 (port) on CIFAR-10, one NVIDIA V100, float32.

    Command:    bash run_gpu.sh --data-path CIFAR
    Hours:      not documented for the GPU
    Documented: top-1 error 5.21 %, 141 ms a step

    The document gives one set of hyper-parameters for both devices, this one. The original's run_gpu.py contained
    another: --batch-size 64 --epochs 90 --milestones 1,49,69.
    """
    return dataclasses.replace(_se_resnet110(), name="se_resnet110_gpu")


def _se_resnet110() -> Recipe:
    # In epochs counted from 1: 0.01, 0.1 from 2, 0.01 from 80, 0.001 from 120.
    schedule = Schedule("piecewise", 0.01, 160, milestones=(1, 79, 119), factors=(10.0, 1.0, 0.1))
    return Recipe("", "se_resnet110", epochs=160, batch_size=128, schedule=schedule)


def sample() -> Recipe:
    """A shallow network on the embedded sample of handwritten digits: proof that everything works, in a minute.

    Command:  bash run_gpu.sh          (with no data set at hand)
    Hours:    about a minute on two CPU cores
    Expected: top-1 above 95 % on the sample's 299 test images (nothing is documented: the sample is ours)
    """
    schedule = Schedule("cosine", 0.1, 12, warm_up_epochs=1)
    # A mirrored digit is another sign or none, so no flips.
    return Recipe("sample", "se_resnet", 12, 64, schedule, depth=11, crop_padding=2, flip=False)


_RECIPES: Dict[str, Callable[[], Recipe]] = {
    recipe.__name__: recipe for recipe in (se_resnet110_npu, se_resnet110_gpu, sample)
}


def names() -> Tuple[str, ...]:
    """The recipes that exist."""
    return tuple(_RECIPES)


def get(name: str) -> Recipe:
    """The recipe of this name. Raises UsageError with the nearest name where there is none."""
    if name not in _RECIPES:
        raise UsageError(f"unknown recipe {name!r}; {nearest(name, names())}")
    return _RECIPES[name]().checked()


def document(name: str) -> str:
    """The docstring of the recipe: command, hours and documented result."""
    return (_RECIPES[name].__doc__ or "").strip()


def nearest(word: str, choices: Any) -> str:
    """What to do about a misspelled word: "did you mean X?" or the list of all choices."""
    close = difflib.get_close_matches(word, list(choices), n=1)
    return f"did you mean {close[0]!r}?" if close else f"choose one of {', '.join(choices)}"
