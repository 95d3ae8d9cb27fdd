"""SGD with momentum over float32 weights, whatever the precision of the network, and a moving average of these.

It is torch.optim.SGD, fused where the device has the kernel. The fused form reads on the device whether a gradient has
overflowed, so that no step waits for the host. An NPU has an optimizer of its own besides, on request.
"""

from __future__ import annotations

import contextlib
from typing import Any, Dict, Iterator, List, Mapping, Optional

import torch
from torch import nn

from shared.recipes.imagenet import ImageNetRecipe
from torch_imagenet.devices.device import Device, copy_all
from torch_imagenet.devices.precision import to_half
from torch_imagenet.step.sgd import SGD


class Weights:
    """The master weights: what the optimizer updates, in float32.

    At O2 every 16-bit parameter of the network has a float32 master. Gradients are copied to the masters before the
    update, and the updated masters to the parameters after it. At the other levels the parameters are their own
    masters, and nothing is copied.
    """

    def __init__(self, network: nn.Module, dtype: torch.dtype = torch.float32, supports_foreach: bool = True) -> None:
        """Rounds the network's parameters to `dtype`, except those of batch normalisation; the masters are not."""
        self._network = network
        self.supports_foreach = supports_foreach
        self.masters: Dict[str, torch.Tensor] = dict(network.named_parameters())
        full = {name: parameter.detach() for name, parameter in self.masters.items()}
        if dtype != torch.float32:
            to_half(network, dtype)
        self._halves = [(name, half) for name, half in self.masters.items() if half.dtype != full[name].dtype]
        for name, half in self._halves:
            self.masters[name] = full[name].requires_grad_(half.requires_grad)

    def trainable(self) -> Dict[str, torch.Tensor]:
        """The float32 weights that are not frozen, by name."""
        return {name: master for name, master in self.masters.items() if master.requires_grad}

    def take_gradients(self) -> None:
        """Copy the gradients of the network to the masters, in float32."""
        targets, sources = [], []
        for name, half in self._halves:
            if half.grad is not None:
                master = self.masters[name]
                master.grad = torch.empty_like(master) if master.grad is None else master.grad
                targets.append(master.grad)
                sources.append(half.grad)
        copy_all(targets, sources, self.supports_foreach)

    def keep_gradients(self) -> None:
        """Give the gradients of the network memory of their own, which the next backward pass does not overwrite."""
        for parameter in self._network.parameters():
            if parameter.grad is not None:
                parameter.grad = parameter.grad.clone()

    def copy_to_model(self) -> None:
        """Copy the updated masters to the parameters of the network, rounded to their dtype."""
        halves, masters = [half for _, half in self._halves], [self.masters[name] for name, _ in self._halves]
        with torch.no_grad():
            copy_all(halves, masters, self.supports_foreach)

    def clear_gradients(self, keeper: Optional[torch.optim.Optimizer] = None) -> None:
        """Drop the gradients of the network; the masters keep the memory of theirs for the next step.

        `keeper` is an optimizer that needs every gradient at the address it had in the first step: it is zeroed there.
        """
        if keeper is None:
            self._network.zero_grad(set_to_none=True)
            return
        keeper.zero_grad(set_to_none=False)
        for _, half in self._halves:
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


class WeightAverage:
    """An exponential moving average of the weights, used for evaluation (Polyak and Juditsky, 1992).

    average = decay * average + (1 - decay) * weights, in float32, on the device. The running statistics of batch
    normalisation are averaged too, integer buffers are not. `entries` are those of the network's state dict,
    none without a `decay`.
    """

    def __init__(self, weights: Weights, decay: Optional[float]) -> None:
        self._weights, self._decay = weights, decay or 0.0
        state = weights.state_dict() if decay else {}
        self._sources = {name: value for name, value in state.items() if value.is_floating_point()}
        self.entries = {name: value.detach().clone() for name, value in self._sources.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Add the current weights to the average; called after every step."""
        averages, sources = list(self.entries.values()), list(self._sources.values())
        if averages and self._weights.supports_foreach:
            torch._foreach_lerp_(averages, sources, 1.0 - self._decay)
        else:
            for average, source in zip(averages, sources):
                average.lerp_(source, 1.0 - self._decay)

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Restore the average from `entries`."""
        for name, average in self.entries.items():
            average.copy_(state[name])

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """The network has the averaged weights inside the context and its own again after it."""
        if not self.entries:
            yield
            return
        kept = {name: value.clone() for name, value in self._weights.state_dict().items()}
        self._weights.load_state_dict({**kept, **self.entries})
        try:
            yield
        finally:
            self._weights.load_state_dict(kept)


def sgd(weights: Weights, recipe: ImageNetRecipe, device: Device) -> torch.optim.Optimizer:
    """The optimizer of a recipe, where the device allows it fused.

    The recipe's `decayed` "all" applies weight decay to every parameter, as documented; "weights" leaves out the
    one-dimensional ones: biases, and the scales and shifts of batch normalisation.
    """
    named = weights.trainable()
    rest = [parameter for parameter in named.values() if recipe.decayed == "weights" and parameter.ndim <= 1]
    decayed = [parameter for parameter in named.values() if recipe.decayed == "all" or parameter.ndim > 1]
    groups: List[Dict[str, Any]] = [{"params": decayed, "weight_decay": recipe.weight_decay}]
    groups += [{"params": rest, "weight_decay": 0.0}] if rest else []
    nesterov = recipe.nesterov and recipe.momentum > 0  # without momentum they are the same, and torch refuses it
    settings: Dict[str, Any] = {"lr": recipe.schedule.at(0), "momentum": recipe.momentum, "nesterov": nesterov}
    optimizer: Optional[torch.optim.Optimizer] = None
    if device.own_sgd is not None:
        optimizer = device.own_sgd(groups, **settings)
    elif device.has_fused_sgd(recipe.momentum):
        with contextlib.suppress(RuntimeError):  # the device has no fused kernel
            optimizer = SGD(groups, fused=True, **settings)
    optimizer = optimizer or SGD(groups, foreach=None if device.supports_foreach else False, **settings)
    if recipe.momentum:
        # Where the first step overflows, the fused kernel leaves the momentum buffers it has just allocated
        # uninitialised and uses them in the next step. Zeros give the same first step and are safe.
        for parameter in named.values():
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


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
