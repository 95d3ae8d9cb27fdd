"""SGD with momentum over float32 weights, whatever the precision of the network.

It is torch.optim.SGD, fused where the device has the kernel. The fused form reads on the device whether a gradient has
overflowed, so that no step waits for the host. An NPU has an optimizer of its own besides, on request.
"""

from __future__ import annotations

import contextlib
from typing import Any, Dict, List, Mapping, Optional, Tuple

import torch
from torch import nn

from shared.recipes.imagenet import ImageNetRecipe
from torch_imagenet.devices.device import Device, copy_all


class Weights:
    """The master weights: what the optimizer updates, in float32.

    At O2 every 16-bit parameter of the network has a float32 master. Gradients are copied to the masters before the
    update, and the updated masters to the parameters after it. At the other levels the parameters are their own
    masters, and nothing is copied.
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
        """The float32 weights that are not frozen, by name."""
        return {name: master for name, master in self.masters.items() if master.requires_grad}

    def take_gradients(self) -> None:
        """Copy the gradients of the network to the masters, in float32."""
        halves = [half for half in self._halves if half.grad is not None]
        if halves:
            masters = [copy for half, copy in zip(self._halves, self._copies) if half.grad is not None]
            copy_all([_gradient(m) for m in masters], [_gradient(half) for half in halves], self.supports_foreach)

    def copy_to_model(self) -> None:
        """Copy the updated masters to the parameters of the network, rounded to their dtype."""
        if self._halves:
            with torch.no_grad():
                copy_all(self._halves, self._copies, self.supports_foreach)

    def clear_gradients(self, keeper: Optional[torch.optim.Optimizer] = None) -> None:
        """Drop the gradients of the network; the masters keep the memory of theirs for the next step.

        `keeper` is an optimizer that needs every gradient at the address it had in the first step: it is zeroed there.
        """
        if keeper is None:
            self._network.zero_grad(set_to_none=True)
            return
        keeper.zero_grad(set_to_none=False)
        for half in self._halves:
            half.grad = None

    def state_dict(self) -> Dict[str, torch.Tensor]:
        """The state dict of the network, with every floating-point entry in float32."""
        state = self._network.state_dict()
        return {name: self.masters[name].detach() if name in self.masters else state[name] for name in state}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Load the network and its masters from a complete state dict."""
        self._network.load_state_dict(state)
        with torch.no_grad():
            for name, master in self.masters.items():
                master.copy_(state[name])


def _gradient(parameter: torch.Tensor) -> torch.Tensor:
    if parameter.grad is None:
        parameter.grad = torch.empty_like(parameter)
    return parameter.grad


def sgd(weights: Weights, recipe: ImageNetRecipe, device: Device) -> Tuple[torch.optim.Optimizer, bool]:
    """The optimizer, and whether it is fused: whether it reads on the device if gradients have overflowed.

    The recipe's `decayed` "all" applies weight decay to every parameter, as documented; "weights" leaves out the
    one-dimensional ones: biases, and the scales and shifts of batch normalisation.
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
        # Where the first step overflows, the fused kernel leaves the momentum buffers it has just allocated
        # uninitialised and uses them in the next step. Zeros give the same first step and are safe.
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
    """Load the result of `optimizer.state_dict()`, giving each tensor the memory format of its parameter.

    The fused kernel pairs the elements of weight and momentum by address, not by index: a buffer stored contiguous
    beside a channels_last weight would silently be added to the wrong elements.
    """
    optimizer.load_state_dict(dict(state))
    for parameter, own in optimizer.state.items():
        for name, value in own.items():
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                own[name] = torch.empty_like(parameter).copy_(value)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of the next step."""
    for group in optimizer.param_groups:
        group["lr"] = rate
