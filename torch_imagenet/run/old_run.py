"""A run of an original port goes on: what its checkpoint has besides the weights, and what it has not.

| program | file | keys |
|---|---|---|
| SENet154, train.py | models/checkpoint-E.pth.rar of epoch E, from 1 | net, optimizer |
| SE-ResNet-50, main.py | checkpoint.pth.tar, model_best.pth.tar | epoch, arch, state_dict, best_acc1, optimizer, amp |
| PNASNet, imagenet_fast.py | the same | epoch, state_dict, acc, best_acc, optimizer |

`epoch` is one more than the zero-based epoch that has just been trained. So it is, as SENet154's E, the number of
epochs that are done, and the zero-based next one.
"""

from __future__ import annotations

import contextlib
import math
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Mapping, Optional, Tuple

import torch

from shared.errors import UsageError
from shared.imagenet.layout import some
from shared.run import old_run
from torch_imagenet.weights.files import read_weight_file
from torch_imagenet.weights.form import AUXILIARY
from torch_imagenet.weights.load import state_dict_of

if TYPE_CHECKING:
    from torch_imagenet.run.setup import TrainingSetup
    from torch_imagenet.step.training_step import TrainingStep

_BEST = ("best_acc1", "best_acc", "best_prec1")
_KNOWN = {"epoch", "arch", "state_dict", "net", "acc", "optimizer", "amp", *_BEST}
_NUMBERED = re.compile(r"(?:.*-)?checkpoint-(\d{1,6})\.")  # SENet154's, also with a tag
_MALFORMED = (KeyError, TypeError, ValueError, AttributeError, RuntimeError, OverflowError)


@dataclass(frozen=True)
class OldRun:
    """What a checkpoint says of its run, without the tensors."""

    path: Path
    auxiliary: bool  # whether there is an auxiliary head
    epoch: int  # the epochs that are done
    best: Optional[float]  # percent
    loss_scale: Optional[Tuple[float, int]]  # and the steps since it changed
    settings: Dict[str, float]  # of the optimizer; empty without one
    unused: Tuple[str, ...]  # keys of the file that no original port writes

    def continued(self, setup: TrainingSetup) -> TrainingSetup:
        """The setup with a state that goes on at the first step of the next epoch.

        Raises UsageError where the recipe ends before that, or has another auxiliary head.
        """
        recipe = setup.recipe
        state = old_run.state_after(self.epoch, recipe, setup.plan, str(self.path), "", "the file", self.best)
        if self.auxiliary != (recipe.auxiliary_weight > 0):
            has, weight = ("an", "0.4 (the old program's)") if self.auxiliary else ("no", "0")
            raise UsageError(
                f"{self.path} has {has} auxiliary head; give --auxiliary-weight {weight}, or {old_run.NEW_RUN}"
            )
        return replace(setup, state={**state, "bad_images": []})

    def load(self, step: TrainingStep, weights: Mapping[str, torch.Tensor], setup: TrainingSetup) -> List[str]:
        """Give the step the float32 `weights`, which are the file's, and its momentum and loss scale.

        Returns lines for the log. Raises UsageError where the optimizer is another one.
        """
        recipe, account = setup.recipe, _Account()
        step.weights.load_state_dict(weights)
        step.average.load_state_dict(weights)
        content = read_weight_file(self.path)
        try:
            momenta = _load_momenta(step, content, list(state_dict_of(content, str(self.path))[0]))
        except _MALFORMED as error:
            raise self._other_optimizer(" ".join(str(error).split())[:150]) from error
        except _OtherOptimizer as error:
            raise self._other_optimizer(str(error)) from error
        if recipe.momentum:
            account.add(f"momentum of {momenta} parameters" if momenta else None, "momentum (zero here)")
        self._load_scale(step, account)
        account.add(None if self.best is None else f"best accuracy {self.best:.3f} %", "best accuracy")
        if setup.precision.weights != torch.float32:
            account.missing.append("float32 master weights (here they begin as the file's weights)")
        account.missing.append(f"order of the images and random numbers (here of seed {recipe.seed})")
        account.missing.append("images seen (counted from here)")
        account.notes += self._differences(setup)
        account.notes += [f"in the file and not used: {some(self.unused)}"] if self.unused else []
        assert setup.state is not None
        lines = old_run.lines(str(self.path), "", setup.state, recipe, account.taken, account.missing)
        return [*lines, *[f"note: {note}" for note in account.notes]]

    def _other_optimizer(self, what: str) -> UsageError:
        what = f"the optimizer in {self.path} is not this run's ({what})"
        return UsageError(f"{what}; give the old run's network and options, or {old_run.NEW_RUN}")

    def _load_scale(self, step: TrainingStep, account: _Account) -> None:
        scale, saved = step.loss_scale, self.loss_scale
        if saved is None:
            account.missing += [f"loss scale (here from {scale.get_scale():g})"] if scale.is_enabled() else []
        elif not scale.is_enabled():
            account.notes.append(f"the file's loss scale {saved[0]:g} is left: {step.precision.name} needs none")
        elif scale.static not in (None, saved[0]):
            account.notes.append(f"the file's loss scale is {saved[0]:g} and this run's {scale.static:g}")
        else:
            account.taken.append(f"loss scale {saved[0]:g}")
            if scale.static is None:
                state = scale.state_dict()
                state["scaler"].update(scale=saved[0], _growth_tracker=saved[1])
                scale.load_state_dict(state)

    def _differences(self, setup: TrainingSetup) -> Iterator[str]:
        """Where the old run's optimizer was set otherwise than this recipe sets it."""
        recipe, there = setup.recipe, f"in epoch {self.epoch}"
        ours = {
            "learning rate": (recipe.schedule.at(self.epoch - 1) if self.epoch else None, f" {there}"),
            "momentum": (recipe.momentum, ""),
            "dampening": (0.0, ""),
            "nesterov": (float(recipe.nesterov), ""),
            "weight decay": (recipe.weight_decay, ""),
        }
        for name, (own, when) in ours.items():
            theirs = self.settings.get(name)
            if theirs is not None and own is not None and not math.isclose(theirs, own, rel_tol=1e-4, abs_tol=1e-12):
                yield (
                    f"the old run had {name} {theirs:g}{when}, and {recipe.name} has {own:g}; unless that is meant,"
                    " give the old run's --recipe and options"
                )


@dataclass
class _Account:
    """For the log: what was taken from the file, what is not in it, what else is to be known."""

    taken: List[str] = field(default_factory=lambda: ["weights"])
    missing: List[str] = field(default_factory=list)
    notes: List[str] = field(default_factory=list)

    def add(self, taken: Optional[str], missing: str) -> None:
        """Note what was taken, or else that it is missing."""
        if taken is not None:
            self.taken.append(taken)
        else:
            self.missing.append(missing)


class _OtherOptimizer(Exception):
    """What the optimizer is instead."""


def read(path: Path, content: Any) -> OldRun:
    """The run of which the file with this content is a checkpoint. Raises UsageError where it holds none."""
    state, wrapper = state_dict_of(content, str(path))
    if wrapper not in ("state_dict", "net") or not {"epoch", "optimizer"} & set(content):
        raise UsageError(f"{path} holds weights and no run that could go on; {old_run.NEW_RUN}")
    if "version" in content:  # timm's, where `epoch` is the one that is done
        raise UsageError(f"{path} is no checkpoint of an original port; {old_run.NEW_RUN}")
    best = next((_number(content[key]) for key in _BEST if key in content), None)
    return OldRun(
        path,
        any(key.startswith(AUXILIARY) for key in state),
        _epoch(path, content),
        best if best is not None and 0 <= best <= 100 else None,
        _loss_scale(content.get("amp")),
        _settings(path, content.get("optimizer")),
        tuple(str(key) for key in content if key not in _KNOWN),
    )


def _epoch(path: Path, content: Mapping[str, Any]) -> int:
    number: Any = content.get("epoch")
    if "epoch" not in content:
        named = _NUMBERED.match(path.name)
        number = int(named.group(1)) if named else None
    if type(number) is not int or not 0 <= number < 10**6:
        raise UsageError(
            f"{path} does not say how many epochs are done; name it checkpoint-E.pth.rar as SENet154's program did,"
            f" with E epochs, or {old_run.NEW_RUN}"
        )
    return number


def _number(value: Any) -> Optional[float]:
    """A number that may be a tensor of one element; None of anything else."""
    with contextlib.suppress(*_MALFORMED):
        number = float(value)
        return number if math.isfinite(number) else None
    return None


def _loss_scale(amp: Any) -> Optional[Tuple[float, int]]:
    """Of the state that apex.amp saves: {"loss_scaler0": {"loss_scale": 65536.0, "unskipped": 12}}."""
    with contextlib.suppress(*_MALFORMED):
        scale, steps = _number(amp["loss_scaler0"]["loss_scale"]), int(amp["loss_scaler0"]["unskipped"])
        if scale is not None and 0 < scale <= 2.0**32 and steps >= 0:
            return scale, steps
    return None


def _settings(path: Path, optimizer: Any) -> Dict[str, float]:
    """The settings of the optimizer's decayed parameters. Raises UsageError where it is none."""
    if optimizer is None:
        return {}
    try:
        group = max(optimizer["param_groups"], key=_decay)
        names = {"lr": "learning rate", "weight_decay": "weight decay"}
        keys = ("lr", "momentum", "dampening", "nesterov", "weight_decay")
        return {names.get(key, key): float(group[key]) for key in keys if key in group}
    except _MALFORMED as error:
        raise UsageError(f"the optimizer in {path} is none of torch's; {old_run.NEW_RUN}") from error


def _load_momenta(step: TrainingStep, content: Mapping[str, Any], order: List[str]) -> int:
    """Copy the momentum of every parameter; how many. Raises _OtherOptimizer where it is of others.

    An optimizer numbers the parameters in the order in which the network has them, which is that of the names in its
    state dict. Of several groups, those belong together that are in the same order of weight decay.
    """
    saved = content.get("optimizer")
    if saved is None:
        return 0
    weights, loaded = step.weights.trainable(), 0
    names = {id(weight): name for name, weight in weights.items()}
    groups = [step.optimizer.param_groups, saved["param_groups"]]
    own, theirs = ([list(group["params"]) for group in sorted(one, key=_decay, reverse=True)] for one in groups)
    if [len(group) for group in own] != [len(group) for group in theirs]:
        sizes = [" + ".join(str(len(group)) for group in groups) for groups in (theirs, own)]
        raise _OtherOptimizer(f"of {sizes[0]} parameters and not {sizes[1]}")
    for group, keys in zip(own, theirs):
        for name, key in zip(sorted((names[id(one)] for one in group), key=order.index), keys):
            state, own_state = saved["state"].get(key, {}), step.optimizer.state[weights[name]]
            if state and "momentum_buffer" not in state:
                raise _OtherOptimizer(f"of {', '.join(map(str, state))}, and here SGD")
            value = state.get("momentum_buffer")
            if value is None or "momentum_buffer" not in own_state:
                continue
            if value.shape != weights[name].shape:
                raise _OtherOptimizer(f"the momentum of {name} is {list(value.shape)}, not {list(weights[name].shape)}")
            own_state["momentum_buffer"].copy_(value)
            loaded += 1
    return loaded


def _decay(group: Mapping[str, Any]) -> float:
    return float(group["weight_decay"])
