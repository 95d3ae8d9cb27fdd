"""The reference by itself: whole steps in float64, and in float32, rounded as the side rounds."""

from __future__ import annotations

from functools import partial
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

import numpy as np
import torch
from torch import nn

from shared.port_check.rounding import DROPPED_BITS
from torch_imagenet.distributed.process_group import ALONE, Ranks
from torch_imagenet.port_check import replay
from torch_imagenet.port_check.leaves import DTYPES, hooked, products

MakeOptimizer = Callable[[Mapping[str, nn.Parameter]], torch.optim.Optimizer]
Loss = Callable[[Any], torch.Tensor]


class _Rounded(torch.autograd.Function):
    """The value rounded to a dtype, or to one of `DROPPED_BITS`, and its gradient as well."""

    @staticmethod
    def forward(context: Any, value: torch.Tensor, dtype: str) -> torch.Tensor:
        context.dtype = dtype
        return _rounded(value, dtype)

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> Any:
        return _rounded(gradient, context.dtype), None


def _rounded(value: torch.Tensor, dtype: str) -> torch.Tensor:
    if dtype in DTYPES:
        return value.to(DTYPES[dtype]).to(value.dtype)
    dropped = DROPPED_BITS[dtype]
    return ((value.view(torch.int32) + (1 << (dropped - 1))) & -(1 << dropped)).view(torch.float32)


class Trajectory:
    """Training steps of a network on one batch, on the CPU: the loss of each, and every layer's values of the first.

    With `dtypes`, by layer, the result of each layer is rounded to its dtype, and so is its gradient. With
    `float32_products` of a device, the inputs of layers that multiply are rounded as it rounds them. Each of
    several `ranks` has its own batch; losses and gradients are the means over all, the layers' values its own.
    """

    def __init__(
        self,
        network: nn.Module,
        dtypes: Optional[Mapping[str, str]] = None,
        float32_products: Optional[Mapping[str, str]] = None,
        ranks: Ranks = ALONE,
        keep_gradients: bool = False,
    ) -> None:
        self._network, self._ranks, self._keep_gradients = network, ranks, keep_gradients
        self._dtypes, self._products = dtypes or {}, float32_products or {}
        self._counts: Dict[str, int] = {}
        self.losses: List[float] = []
        self.values: Dict[str, np.ndarray] = {}  # by the trace's keys
        self.gradients: Dict[str, np.ndarray] = {}  # of the weights, in the first step

    def run(self, images: torch.Tensor, loss: Loss, optimizer: MakeOptimizer, steps: int) -> None:
        """`steps` updates with the gradients of `loss`, a mean over the batch."""
        dtype = next(self._network.parameters()).dtype
        update = optimizer(dict(self._network.named_parameters()))
        for step in range(steps):
            update.zero_grad()
            self._counts.clear()
            with hooked(self._network, partial(self._after, step == 0), self._before):
                value = loss(self._network(images.to(dtype)))
                value.backward()
            gradients = [weight.grad for weight in self._network.parameters() if weight.grad is not None]
            mean = value.detach().clone()
            self._ranks.average([mean, *gradients])
            self.losses.append(float(mean))
            if step == 0 and self._keep_gradients:
                self.gradients = {name: value.copy() for name, value in replay.gradients(self._network).items()}
            update.step()

    def _before(self, name: str, layer: nn.Module, inputs: Tuple[Any, ...]) -> Tuple[Any, ...]:
        factors = products(layer, self._dtypes.get(name, ""), self._products)
        return (_Rounded.apply(inputs[0], factors), *inputs[1:]) if factors else inputs

    def _after(
        self, store: bool, name: str, layer: nn.Module, inputs: Tuple[Any, ...], output: torch.Tensor
    ) -> torch.Tensor:
        number = self._counts.get(name, 0)
        self._counts[name] = number + 1
        if name in self._dtypes:
            output = _Rounded.apply(output, self._dtypes[name])
        copy = output.clone()
        if store:
            self.values[f"output/{name}/{number}"] = output.detach().numpy()
            copy.register_hook(partial(self._store, f"output gradient/{name}/{number}"))
        return copy

    def _store(self, key: str, gradient: torch.Tensor) -> None:
        self.values[key] = gradient.numpy()
