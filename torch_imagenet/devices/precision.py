"""The documented precision levels as a table: O0, O1, O2 (apex's names) and bf16.

O1 computes in float16 where that is safe (autocast). O2 is what apex means by it: weights, inputs and gradients are
float16, batch normalisation and the weights that the optimizer updates (the master weights) float32. The float16
levels scale the loss, so that small gradients do not vanish; bfloat16 has float32's range and needs none.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Dict, Optional

import torch
from torch import nn

from shared.errors import UsageError
from shared.run.loss_scale_watch import SkippedSteps, overflowing
from shared.text import nearest

_STATIC = 2**31 - 1  # steps without growth: a static scale is set anew after each step
LARGEST_SCALE = 2.0**32
_WINDOW = 50  # steps; from 2**16 a dynamic scale is below 1 after 17 that were left out


@dataclass(frozen=True)
class Precision:
    """One level. `weights` is the dtype of convolutions and linear layers, `autocast` that of their arithmetic."""

    name: str
    autocast: Optional[torch.dtype] = None
    weights: torch.dtype = torch.float32
    loss_scale: Optional[str] = None  # unless a recipe or option says otherwise


PRECISIONS: Dict[str, Precision] = {
    level.name: level
    for level in (
        Precision("O0"),
        Precision("O1", autocast=torch.float16, loss_scale="dynamic"),
        Precision("O2", weights=torch.float16, loss_scale="dynamic"),
        Precision("bf16", autocast=torch.bfloat16),
    )
}


def precision(name: str) -> Precision:
    """The level of this name. Raises UsageError with the nearest name where there is none."""
    if name not in PRECISIONS:
        raise UsageError(f"unknown precision {name!r}; {nearest(name, PRECISIONS)}")
    return PRECISIONS[name]


def to_half(network: nn.Module, dtype: torch.dtype) -> None:
    """All parameters and buffers to `dtype`, except those of batch normalisation, which stay as they are."""
    for module in network.modules():
        if not isinstance(module, nn.modules.batchnorm._BatchNorm):
            for parameter in module.parameters(recurse=False):
                parameter.data = parameter.data.to(dtype)


class LossScale:
    """Scales the loss, unscales and checks all gradients in one fused pass, and leaves steps out that overflow.

    `setting` is None (no scaling), "dynamic" (apex's: from 2**16, doubled after 2,000 good steps, halved at an
    overflow) or a number as text. Nothing here waits for the device, provided that the optimizer is a fused one.
    """

    def __init__(self, setting: Optional[str], device_type: str) -> None:
        self.static = None if setting in (None, "dynamic") else _number(str(setting))
        # On a device: the steps left out, and after each step whether it was.
        self._scaler = torch.amp.GradScaler(
            device_type,
            enabled=setting is not None,
            init_scale=self.static or 2.0**16,
            growth_interval=_STATIC if self.static else 2000,
        )
        self.enabled = setting is not None
        self.skipped: Optional[torch.Tensor] = None  # steps left out so far, float32 scalar on the device
        self._steps = 0  # of this process
        self._watch = SkippedSteps(self.static, _WINDOW)

    def scale(self, loss: torch.Tensor) -> torch.Tensor:
        """The loss to run backward from."""
        return self._scaler.scale(loss)

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Divide the gradients by the scale and note whether one is not finite (the documented combine_grad)."""
        if self.enabled:
            self._scaler.unscale_(optimizer)

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Update the parameters, unless a gradient is not finite."""
        self._scaler.step(optimizer)
        if self.enabled:
            found = self._scaler._found_inf_per_device(optimizer)
            overflow = sum(found.values(), start=torch.zeros_like(next(iter(found.values()))))
            self.skipped = overflow.clone() if self.skipped is None else self.skipped + overflow
            self._scaler.update(self.static)
            self._steps += 1

    def check(self, step: int, ended: bool) -> None:
        """Raise UsageError where no scale, or not this one, keeps gradients finite. Waits for the device.

        `step` is the one just done, for the message; `ended`: it was the last one of an epoch.
        """
        if self.skipped is None:
            return
        value = self.value()
        if self.static is None and value < 1:
            raise overflowing(f"the loss scale has fallen to {value:g} by step {step}", None)
        self._watch.check(step, self._steps, int(self.skipped), ended)

    def value(self) -> float:
        """The scale now. Waits for the device."""
        return float(self._scaler.get_scale()) if self.enabled else 1.0

    def events(self) -> Dict[str, float]:
        """For events.jsonl, once a step has been taken with a scale. Waits for the device."""
        if not self.enabled or self.skipped is None:
            return {}
        return {"loss_scale": self.value(), "steps_skipped": int(self.skipped)}

    def state_dict(self) -> Dict[str, object]:
        """The scale, its growth and the steps left out. Waits for the device."""
        skipped = 0.0 if self.skipped is None else float(self.skipped)
        return {"scaler": self._scaler.state_dict(), "skipped": skipped}

    def load_state_dict(self, state: Dict[str, object], device: torch.device) -> None:
        """Go on with the state of `state_dict`."""
        self._scaler.load_state_dict(state["scaler"])  # type: ignore[arg-type]
        skipped = float(state["skipped"])  # type: ignore[arg-type]
        self.skipped = torch.full((), skipped, device=device)
        self._watch.start(int(skipped))


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 1 <= value <= LARGEST_SCALE:
        raise UsageError(f"a loss scale of {text!r}; give dynamic or a number from 1 to 2^32, as in --loss-scale 128")
    return value
