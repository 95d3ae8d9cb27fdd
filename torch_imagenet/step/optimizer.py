"""SGD with momentum over float32 weights, whatever the network computes in.

torch.optim.SGD everywhere, in its fused form where the device has one: that form takes the loss scale's verdict on the
device, so that no step waits for the host. An NPU has another one besides, on request.
"""

from __future__ import annotations

import contextlib
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import torch
from torch import nn

from shared.recipes.imagenet import ImageNetRecipe
from torch_imagenet.devices.device import Device


def copy_all(targets: Sequence[torch.Tensor], sources: Sequence[torch.Tensor], supports_foreach: bool) -> None:
    """Each target becomes its source, of the same shape; in one pass where the device can."""
    if supports_foreach and targets:  # the fused operators refuse to do nothing
        torch._foreach_copy_(list(targets), list(sources))
        return
    for target, source in zip(targets, sources):
        target.copy_(source)


class Weights:
    """The trainable weights as the optimizer sees them: float32, beside the network's own where those are half.

    At O2 every half parameter has a float32 master. Gradients are copied to the masters before the update and the
    updated masters back, each in one pass where the device can (`supports_foreach`); elsewhere parameters are their
    own masters and nothing is copied.
    """

    def __init__(self, network: nn.Module, supports_foreach: bool = True) -> None:
        self._network = network
        self.supports_foreach = supports_foreach
        self.masters: Dict[str, torch.Tensor] = {}
        self._halves: List[torch.Tensor] = []
        self._copies: List[torch.Tensor] = []
        for name, parameter in network.named_parameters():
            if parameter.dtype in (torch.float16, torch.bfloat16):
                master = parameter.detach().float().requires_grad_(parameter.requires_grad)
                self._halves.append(parameter)
                self._copies.append(master)
                self.masters[name] = master
            else:
                self.masters[name] = parameter

    def trainable(self) -> Dict[str, torch.Tensor]:
        """Name to float32 weight, those that are not frozen."""
        return {name: master for name, master in self.masters.items() if master.requires_grad}

    def take_gradients(self) -> None:
        """The network's gradients, in float32, where the optimizer finds them."""
        halves = [half for half in self._halves if half.grad is not None]
        if halves:
            masters = [copy for half, copy in zip(self._halves, self._copies) if half.grad is not None]
            copy_all([_gradient(m) for m in masters], [_gradient(half) for half in halves], self.supports_foreach)

    def copy_to_model(self) -> None:
        """The updated weights, rounded, where the network finds them."""
        if self._halves:
            with torch.no_grad():
                copy_all(self._halves, self._copies, self.supports_foreach)

    def clear_gradients(self, keeper: Optional[torch.optim.Optimizer] = None) -> None:
        """Drop the network's gradients; the masters' own memory is kept for the next step.

        A `keeper`, an optimizer that looks for all gradients where they were in the first step, gets them zeroed there.
        """
        if keeper is None:
            self._network.zero_grad(set_to_none=True)
            return
        keeper.zero_grad(set_to_none=False)
        for half in self._halves:
            half.grad = None

    def state_dict(self) -> Dict[str, torch.Tensor]:
        """The network's state dict, every floating-point entry in float32."""
        state = self._network.state_dict()
        return {name: self.masters[name].detach() if name in self.masters else state[name] for name in state}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Masters and network from a state dict that has every key."""
        self._network.load_state_dict(state)
        with torch.no_grad():
            for name, master in self.masters.items():
                master.copy_(state[name])


def _gradient(parameter: torch.Tensor) -> torch.Tensor:
    if parameter.grad is None:
        parameter.grad = torch.empty_like(parameter)
    return parameter.grad


def sgd(weights: Weights, recipe: ImageNetRecipe, device: Device) -> Tuple[torch.optim.Optimizer, bool]:
    """The optimizer, and whether it is one that takes the loss scale's verdict on the device.

    `decayed` "all" decays every parameter, as documented; "weights" leaves out biases and the scales and shifts of
    normalisation, which are the parameters of one dimension.
    """
    named = weights.trainable()
    rest = [] if recipe.decayed == "all" else [p for p in named.values() if p.ndim <= 1]
    excluded = {id(parameter) for parameter in rest}
    decayed = [parameter for parameter in named.values() if id(parameter) not in excluded]
    groups: List[Dict[str, Any]] = [{"params": decayed, "weight_decay": recipe.weight_decay}]
    if rest:
        groups.append({"params": rest, "weight_decay": 0.0})
    settings: Dict[str, Any] = {"lr": recipe.schedule.at(0), "momentum": recipe.momentum, "nesterov": recipe.nesterov}
    optimizer, fused = _optimizer(groups, settings, device)
    if recipe.momentum:
        # Where the very first step overflows, the fused kernel leaves the buffers that it has just allocated as they
        # are, unwritten, and takes them for momentum in the next step. Zeros give the same first step and are safe.
        for parameter in named.values():
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer, fused


def _optimizer(
    groups: List[Dict[str, Any]], settings: Dict[str, Any], device: Device
) -> Tuple[torch.optim.Optimizer, bool]:
    if device.own_sgd is not None:
        return device.own_sgd(groups, **settings), False
    if device.has_fused_sgd(settings["momentum"]):
        with contextlib.suppress(RuntimeError):  # the device has no fused kernel
            return torch.optim.SGD(groups, fused=True, **settings), True
    return torch.optim.SGD(groups, foreach=None if device.supports_foreach else False, **settings), False


def load_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Go on with the state of `optimizer.state_dict()`, whatever layout its tensors have been stored in.

    The fused kernel walks through weight and momentum by their memory, not by their indices: a buffer that was stored
    contiguous beside a weight in channels_last would silently be added to the wrong elements.
    """
    optimizer.load_state_dict(dict(state))
    for parameter, own in optimizer.state.items():
        for name, value in own.items():
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                own[name] = torch.empty_like(parameter).copy_(value)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The learning rate of the next step."""
    for group in optimizer.param_groups:
        group["lr"] = rate
