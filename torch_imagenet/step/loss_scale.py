"""Loss scaling for float16 gradients ("Mixed Precision Training", Micikevicius et al., arXiv 1710.03740, 3.2)."""

from __future__ import annotations

import math
from typing import Dict, Optional

import torch

from shared.errors import UsageError
from shared.run.divergence import SkippedSteps, overflowing

_NO_GROWTH = 2**31 - 1  # steps between growths of a static scale: it never grows
LARGEST_SCALE = 2.0**32
_WINDOW = 50  # steps; a dynamic scale falls from 2**16 below 1 after 17 skipped steps


class LossScale:
    """Scales the loss, unscales the gradients and skips the steps whose gradients overflow.

    `setting` is None (no scaling), "dynamic" (as in apex: 2**16 at first, doubled after 2,000 steps without an
    overflow, halved at an overflow) or a number as text. With a fused optimizer no step waits for the device.

    Raises UsageError for a setting that is neither.
    """

    def __init__(self, setting: Optional[str], device_type: str) -> None:
        self.static = None if setting in (None, "dynamic") else _number(str(setting))
        self._scaler = torch.amp.GradScaler(
            device_type,
            enabled=setting is not None,
            init_scale=self.static or 2.0**16,
            growth_interval=_NO_GROWTH if self.static else 2000,
        )
        self.enabled = setting is not None
        self.skipped: Optional[torch.Tensor] = None  # steps skipped so far, a float32 scalar on the device
        self._steps = 0  # since this process started
        self._watch = SkippedSteps(self.static, _WINDOW)

    def scale(self, loss: torch.Tensor) -> torch.Tensor:
        """The scaled loss, for backward()."""
        return self._scaler.scale(loss)

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Divide the gradients by the scale and record whether one is not finite, in one fused pass."""
        if self.enabled:
            self._scaler.unscale_(optimizer)

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Update the parameters unless a gradient is not finite, then update the scale."""
        self._scaler.step(optimizer)
        if self.enabled:
            found = self._scaler._found_inf_per_device(optimizer)
            overflow = sum(found.values(), start=torch.zeros_like(next(iter(found.values()))))
            self.skipped = overflow.clone() if self.skipped is None else self.skipped + overflow
            self._scaler.update(self.static)
            self._steps += 1

    def check(self, step: int, ended: bool) -> None:
        """Raise UsageError where too many steps overflow at this scale, or at any. Waits for the device.

        `step` is the number of the last step, for the message; `ended` says whether it was the last of its epoch.
        """
        if self.skipped is None:
            return
        value = self.value()
        if self.static is None and value < 1:
            raise overflowing(f"the loss scale has fallen to {value:g} by step {step}", None)
        self._watch.check(step, self._steps, int(self.skipped), ended)

    def value(self) -> float:
        """The current scale. Waits for the device."""
        return float(self._scaler.get_scale()) if self.enabled else 1.0

    def events(self) -> Dict[str, float]:
        """For events.jsonl, once a step has been taken with a scale. Waits for the device."""
        if not self.enabled or self.skipped is None:
            return {}
        return {"loss_scale": self.value(), "steps_skipped": int(self.skipped)}

    def state_dict(self) -> Dict[str, object]:
        """The state of the scale and the number of skipped steps. Waits for the device."""
        skipped = 0.0 if self.skipped is None else float(self.skipped)
        return {"scaler": self._scaler.state_dict(), "skipped": skipped}

    def load_state_dict(self, state: Dict[str, object], device: torch.device) -> None:
        """Restore the state of `state_dict`."""
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
