"""Recording what a network computes in one training step, without changing it."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import Any, Dict, Iterator, Optional, Tuple

import torch
from torch import nn

from shared.port_check.trace import LayerCall, Trace
from torch_imagenet.port_check.leaves import array, describe, dtype_name, hooked


class Recorder:
    """Fills a trace with the operands and results of every layer while `network` takes a step.

    A layer gets a copy of its input and hands on a copy of its output, so that operations in place change neither
    record. A copy has the values, the dtype and the layout of the original: the kernels and their results are the same.
    The copies to the host wait for the device, so that an error that it raises in a layer comes while `inside` says so.
    """

    def __init__(self, network: nn.Module, trace: Trace) -> None:
        self._network = network
        self._trace = trace
        self._counts: Dict[str, int] = {}
        self.inside: Optional[Tuple[str, str]] = None  # a layer's name and "forward" or "backward" while it computes

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Record the forward and backward passes of the block."""
        with hooked(self._network, self._after, self._before), contextlib.ExitStack() as stack:
            for name, parameter in self._network.named_parameters():
                if parameter.requires_grad:
                    record = partial(self._gradient, name)
                    stack.callback(parameter.register_post_accumulate_grad_hook(record).remove)
            yield

    def _before(self, name: str, layer: nn.Module, inputs: Tuple[Any, ...]) -> Tuple[Any, ...]:
        key = f"{name}/{self._counts.get(name, 0)}"
        copied = self._copied(inputs[0], "input", key)
        self.inside = name, "forward"
        return (copied, *inputs[1:])

    def _after(self, name: str, layer: nn.Module, inputs: Tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
        number = self._counts.get(name, 0)
        self._counts[name] = number + 1
        dtypes = dtype_name(inputs[0].dtype), dtype_name(output.dtype)
        self._trace.calls.append(LayerCall(name, number, describe(layer), *dtypes))
        copied = self._copied(output, "output", f"{name}/{number}")
        self.inside = None
        return copied

    def _copied(self, value: torch.Tensor, what: str, key: str) -> torch.Tensor:
        self._trace.tensors[f"{what}/{key}"] = array(value)
        copy = value.clone()
        if copy.requires_grad:
            copy.register_hook(partial(self._store, f"{what} gradient", key))
        return copy

    def _store(self, what: str, key: str, gradient: torch.Tensor) -> None:
        self._trace.tensors[f"{what}/{key}"] = array(gradient)
        self.inside = (key.rpartition("/")[0], "backward") if what == "output gradient" else None

    def _gradient(self, name: str, parameter: torch.Tensor) -> None:
        if parameter.grad is not None:
            self._trace.tensors[f"gradient/{name}"] = array(parameter.grad)
        if self.inside == (name.rpartition(".")[0], "backward"):  # of the first layer, whose input needs no gradient
            self.inside = None
