"""torch_npu.optim.NpuFusedSGD with the limits and the memory layout of the real one.

At the first step the real one moves all parameters of a dtype, and all their gradients, into one block of memory each,
and from then on computes with these blocks only. So a gradient that is freed and allocated anew is ignored, parameters
must be contiguous, and `zero_grad` cannot set gradients to None. This fake does the same, so that tests notice.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterable, List, Optional

import torch

from torch_npu.extension import EXTENSION


class NpuFusedSGD(torch.optim.Optimizer):
    """Stochastic gradient descent with momentum, with the real one's arithmetic, one block at a time."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        settings = {"lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay}
        super().__init__(params, {**settings, "nesterov": nesterov})
        self._blocks: Optional[List[Dict[str, Optional[torch.Tensor]]]] = None

    @torch.no_grad()
    def step(self, closure: Optional[Callable[[], float]] = None) -> Optional[float]:  # type: ignore[override]
        loss = closure() if closure is not None else None
        if self._blocks is None:
            self._blocks = [self._combined(group) for group in self.param_groups]
        for group, block in zip(self.param_groups, self._blocks):
            parameters, gradients, momentum = block["parameters"], block["gradients"], block["momentum"]
            if parameters is None or gradients is None:
                continue
            if group["weight_decay"]:
                gradients = gradients.add(parameters, alpha=group["weight_decay"])
            if momentum is not None:
                momentum.mul_(group["momentum"]).add_(gradients, alpha=1 - group["dampening"])
                gradients = gradients.add(momentum, alpha=group["momentum"]) if group["nesterov"] else momentum
            parameters.add_(gradients, alpha=-group["lr"])
        return loss

    @torch.no_grad()
    def zero_grad(self, set_to_none: bool = False) -> None:
        if set_to_none:
            raise ValueError("set_to_none is not supported in fused optimizers")
        if self._blocks is None:
            super().zero_grad(set_to_none=False)
            return
        for block in self._blocks:
            if block["gradients"] is not None:
                block["gradients"].zero_()

    def _combined(self, group: Dict[str, Any]) -> Dict[str, Optional[torch.Tensor]]:
        with_gradient = [parameter for parameter in group["params"] if parameter.grad is not None]
        momentum: List[torch.Tensor] = []
        for parameter in with_gradient if group["momentum"] else []:
            state = self.state[parameter]
            previous = state.get("momentum_buffer", torch.zeros_like(parameter))
            state["momentum_buffer"] = previous.clone()
            momentum.append(state["momentum_buffer"])
        return {
            "parameters": _combine(with_gradient),
            "gradients": _combine([parameter.grad for parameter in with_gradient]),
            "momentum": _combine(momentum),
        }


def _combine(tensors: List[torch.Tensor]) -> Optional[torch.Tensor]:
    """One block that holds these tensors, which become views of it, as does every tensor that shares their memory."""
    if not tensors:
        return None
    for tensor in tensors:
        if tensor.device.type != "npu":
            raise RuntimeError(f"Tensors to combine must be on NPU, got {tensor.device.type}.")
        if not tensor.is_contiguous():
            raise RuntimeError("Tensors to combine must be contiguous.")
    block = torch.cat([tensor.detach().flatten() for tensor in tensors])
    offset = 0
    for tensor in tensors:
        EXTENSION.change_data_ptr(tensor, block, offset)
        offset += tensor.numel()
    return block
