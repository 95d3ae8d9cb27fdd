"""The fused kernel of torch.optim.SGD: whether it is right on a device, and what it should be given on a CPU."""

from __future__ import annotations

from typing import List, Optional

import torch


def fault(device: torch.device) -> Optional[str]:
    """What is wrong with torch.optim.SGD(fused=True) on the device, for the user; None where nothing is. It waits.

    Two updates and one that an overflow forbids, of one small tensor, are compared with those of the unfused form. A
    kernel may be registered for a whole kind of device and fail on some: torch_npu's does on the Ascend 910.
    """
    try:
        fused, plain = _updated(device, fused=True), _updated(device, fused=False)
    except RuntimeError as error:
        return f"fails here ({str(error).strip().splitlines()[0]})"
    for one, other in zip(fused, plain):
        if not torch.allclose(one, other, rtol=1e-4, atol=1e-6):
            return "gives wrong weights here"
    return None


def as_stored(gradient: torch.Tensor) -> torch.Tensor:
    """On a CPU a contiguous view of a channels_last gradient [A, B, H, W], as [A, H, W, B]; else the gradient itself.

    The kernel goes through memory, whatever the shapes. On a CPU it first copies a gradient that is not contiguous, and
    then does not read the copy (torch 2.13): 6 of 247 ms of a step of SE-ResNet-50.
    """
    channels_last = gradient.ndim == 4 and not gradient.is_contiguous()
    channels_last = channels_last and gradient.is_contiguous(memory_format=torch.channels_last)
    return gradient.permute(0, 2, 3, 1) if channels_last and gradient.device.type == "cpu" else gradient


def _updated(device: torch.device, fused: bool) -> List[torch.Tensor]:
    """The weight after each step, float32 [16] on the host."""
    weight = torch.linspace(-1, 1, 16).to(device).requires_grad_()
    optimizer = torch.optim.SGD([weight], lr=0.5, momentum=0.9, weight_decay=0.1, fused=fused, foreach=False)
    optimizer.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
    found = []
    for overflow in (False, False, True):
        weight.grad = torch.linspace(1, 3, 16).to(device)
        if fused:
            optimizer.found_inf = torch.full((1,), float(overflow), device=device)  # type: ignore[attr-defined]
        if fused or not overflow:
            optimizer.step()
        found.append(weight.detach().cpu().clone())
    return found
