"""Loss scaling for float16 gradients ("Mixed Precision Training", Micikevicius et al., arXiv 1710.03740, 3.2)."""

from __future__ import annotations

import contextlib
from typing import Any, Dict, Optional

import torch
import torch.distributed as dist

from shared.errors import UsageError
from shared.run.divergence import SkippedSteps, overflowing
from torch_imagenet.devices.device import Device
from torch_imagenet.distributed.process_group import ALONE, Ranks

_NO_GROWTH = 2**31 - 1  # steps between growths of a static scale: it never grows
_WINDOW = 50  # steps; a dynamic scale falls from 2**16 below 1 after 17 skipped steps


class LossScale(torch.amp.GradScaler):
    """torch's gradient scaler, with a fixed scale too; it counts the steps that are skipped because gradients overflow.

    `setting` is None (no scaling), "dynamic" (as in apex: 2**16 at first, doubled after 2,000 steps without an
    overflow, halved at an overflow) or a number as text. With a fused optimizer no step waits for the device. Where the
    device saturates, an overflow on any of the ranks is one of all, and none of before the step's first backward pass
    counts. Raises UsageError for a setting that is neither.
    """

    def __init__(self, setting: Optional[str], device: Device, ranks: Ranks = ALONE) -> None:
        self.static = None if setting in (None, "dynamic") else _number(str(setting))
        interval, enabled = _NO_GROWTH if self.static else 2000, setting is not None
        super().__init__(device.torch_device.type, self.static or 2.0**16, growth_interval=interval, enabled=enabled)
        self.skipped: Optional[torch.Tensor] = None  # steps skipped so far, a float32 scalar on the device
        self._on, self._ranks = device, ranks
        self._saturates, self._cleared = enabled and device.saturates, False
        self._steps = 0  # since this process started
        self._watch = SkippedSteps(self.static, _WINDOW)

    def scale(self, outputs: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """The loss times the scale."""
        if self._saturates and not self._cleared:
            self._on.clear_overflow()
            self._cleared = True
        return super().scale(outputs)

    def unscale_(self, optimizer: torch.optim.Optimizer) -> None:
        """Divide the gradients by the scale and look for an overflow; a collective where it is a flag."""
        super().unscale_(optimizer)
        if self._saturates and self._ranks.size > 1:
            for found in self._found_inf_per_device(optimizer).values():
                dist.all_reduce(found, dist.ReduceOp.MAX)
        self._cleared = False

    def step_and_update(self, optimizer: torch.optim.Optimizer) -> None:
        """Update the parameters unless a gradient is not finite, then update the scale."""
        self.step(optimizer)
        if self.is_enabled():
            found = self._found_inf_per_device(optimizer)
            overflow = sum(found.values(), start=torch.zeros_like(next(iter(found.values()))))
            self.skipped = overflow.clone() if self.skipped is None else self.skipped + overflow
            self.update(self.static)
            self._steps += 1

    def check(self, step: int, ended: bool) -> None:
        """Raise UsageError where too many steps up to `step`, an epoch's last if `ended`, overflow. It waits."""
        if self.skipped is None:
            return
        if self.static is None and self.get_scale() < 1:
            raise overflowing(f"the loss scale has fallen to {self.get_scale():g} by step {step}", None)
        self._watch.check(step, self._steps, int(self.skipped), ended)

    def events(self) -> Dict[str, float]:
        """For events.jsonl, once a step has been taken with a scale. Waits for the device."""
        if not self.is_enabled() or self.skipped is None:
            return {}
        return {"loss_scale": self.get_scale(), "steps_skipped": int(self.skipped)}

    def state_dict(self) -> Dict[str, Any]:
        """The state of the scale and the number of skipped steps. Waits for the device."""
        return {"scaler": super().state_dict(), "skipped": 0.0 if self.skipped is None else float(self.skipped)}

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        """Restore the state of `state_dict`."""
        super().load_state_dict(state["scaler"])
        self.skipped = torch.full((), float(state["skipped"]), device=self._on.torch_device)
        self._watch.start(int(state["skipped"]))


def _number(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 1 <= float(text) <= 2.0**32:
            return float(text)
    raise UsageError(f"a loss scale of {text!r}; give dynamic or a number from 1 to 2^32, as in --loss-scale 128")
