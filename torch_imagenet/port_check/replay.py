"""The reference: the same step computed again in float64, every layer fed what it was fed on the side.

The network runs forward and backward once. Wherever a layer begins or ends, the reference's value is compared with the
recorded one and the recorded one is used from there on. So an error does not reach the next layer: each layer, and what
the code does between two layers, is right or wrong by itself. The same holds for gradients on the way back.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

from shared.port_check.trace import LayerCall, Trace
from torch_imagenet.port_check.leaves import LINEAR, LOW, hooked, leaves, tensor

See = Callable[[str, LayerCall, nn.Module, torch.Tensor], None]


class Divergence(Exception):
    """The reference calls layers in another order than the side did, so that nothing after it can be compared."""

    def __init__(self, expected: str, recorded: str) -> None:
        super().__init__(f"the reference calls {expected} where the side called {recorded}")
        self.layer = expected


class _Exchanged(torch.autograd.Function):
    """The recorded value in place of the computed one, forward and backward; `see` gets the computed gradient."""

    @staticmethod
    def forward(
        context: Any,
        computed: torch.Tensor,
        recorded: torch.Tensor,
        gradient: Optional[torch.Tensor],
        see: Callable[[torch.Tensor], None],
    ) -> torch.Tensor:
        context.gradient, context.see = gradient, see
        return recorded.clone()

    @staticmethod
    def backward(context: Any, computed: torch.Tensor) -> Any:
        context.see(computed)
        return computed if context.gradient is None else context.gradient, None, None, None


@dataclass
class Glue:
    """What the code between layers does: the longest chain of operations, and the most terms that one adds up."""

    operations: int = 0
    terms: int = 1


class _CountGlue(TorchFunctionMode):
    """Measures `Glue`: every tensor remembers how many operations lie between it and the last layer."""

    def __init__(self, glue: Glue) -> None:
        super().__init__()
        self.glue = glue

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        operands = [a for a in _flat(args) if isinstance(a, torch.Tensor)]
        if isinstance(result, torch.Tensor) and operands and result.is_floating_point():
            weight = 4 if getattr(function, "__name__", "") == "sigmoid" else 1
            depth = weight + max(getattr(operand, "glue_depth", 0) for operand in operands)
            result.glue_depth = depth  # type: ignore[attr-defined]
            self.glue.operations = max(self.glue.operations, depth)
            for operand in operands:
                larger, smaller = sorted((result.numel(), operand.numel()), reverse=True)
                self.glue.terms = max(self.glue.terms, larger // max(1, smaller))
        return result


def _flat(values: Any) -> Iterator[Any]:
    for value in values:
        if isinstance(value, (list, tuple)):
            yield from _flat(value)
        else:
            yield value


@dataclass
class Replay:
    """One forward and backward pass of `network` over the recorded values, each as `transform` makes it.

    `see(quantity, call, layer, computed)` gets every computed value in order of computation: "input", "output",
    "output gradient", "input gradient". `dtype` is that of the network. With `transform` torch.abs, and a network of
    absolute weights, the values are the sums of magnitudes that rounding errors are measured by.
    """

    network: nn.Module
    trace: Trace
    see: See
    dtype: torch.dtype = torch.float64
    transform: Callable[[torch.Tensor], torch.Tensor] = lambda value: value
    glue: Glue = field(default_factory=Glue)
    _next: Iterator[LayerCall] = field(init=False)
    _open: List[LayerCall] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self._next = iter(self.trace.calls)

    def run(self, images: torch.Tensor, loss: Callable[[Any], torch.Tensor]) -> torch.Tensor:
        """Forward, `loss` of the network's outputs, backward; returns the loss. Raises Divergence."""
        with hooked(self.network, self._after, self._before):
            with _CountGlue(self.glue):
                outputs = self.network(images)
                value = loss(outputs)
            missing = next(self._next, None)
            if missing is not None:
                raise Divergence("the loss", missing.name)
            value.backward()
        return value.detach()

    def _before(self, name: str, layer: nn.Module, inputs: Tuple[Any, ...]) -> Tuple[Any, ...]:
        call = next(self._next, None)
        if call is None or call.name != name:
            raise Divergence(name, "nothing more" if call is None else call.name)
        self._open.append(call)
        recorded = self._recorded(call, "input")
        if isinstance(layer, LINEAR) and call.dtype in LOW:  # it rounds its operands to the dtype it computes in
            used = inputs[0].detach() if recorded is None else recorded
            recorded = used.to(LOW[call.dtype]).to(self.dtype)
        return (self._exchanged(inputs[0], recorded, "input", call, layer), *inputs[1:])

    def _after(self, name: str, layer: nn.Module, inputs: Tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
        call = self._open.pop()
        return self._exchanged(output, self._recorded(call, "output"), "output", call, layer)

    def _exchanged(
        self, computed: torch.Tensor, recorded: Optional[torch.Tensor], quantity: str, call: LayerCall, layer: nn.Module
    ) -> torch.Tensor:
        self.see(quantity, call, layer, computed.detach())
        recorded = computed.detach() if recorded is None else recorded
        if computed.shape != recorded.shape:
            raise Divergence(f"{call.name} with {quantity} {list(computed.shape)}", f"it with {list(recorded.shape)}")
        gradient = self._recorded(call, f"{quantity} gradient")

        def see(value: torch.Tensor) -> None:
            self.see(f"{quantity} gradient", call, layer, value)

        return _Exchanged.apply(computed, recorded, gradient, see)

    def _recorded(self, call: LayerCall, quantity: str) -> Any:
        key = call.key(quantity)
        values = None if key in self.trace.derived else self.trace.tensors.get(key)
        return None if values is None else self.transform(tensor(values, self.dtype))


def rounded_operands(network: nn.Module, trace: Trace) -> None:
    """Round the weights of convolutions and linear layers to the dtype in which the side computed with them."""
    dtypes = {call.name: call.dtype for call in trace.calls}
    for name, layer in leaves(network):
        low = LOW.get(dtypes.get(name, ""))
        if isinstance(layer, LINEAR) and low is not None:
            for parameter in layer.parameters():
                parameter.data = parameter.data.to(low).to(parameter.dtype)


def absolute(network: nn.Module) -> None:
    """Replace every weight by its magnitude, and batch normalisation by nothing: its bounds are computed apart."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.abs_()
    for _, layer in list(leaves(network)):
        if isinstance(layer, _BatchNorm):
            layer.forward = nn.Identity().forward  # type: ignore[method-assign]


def gradients(network: nn.Module) -> Dict[str, np.ndarray]:
    """The gradients of the network's weights by name, as arrays."""
    return {
        name: parameter.grad.detach().numpy()
        for name, parameter in network.named_parameters()
        if parameter.grad is not None
    }
