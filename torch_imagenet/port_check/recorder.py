"""Recording what a network computes in one training step, without changing it."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import Any, Dict, Iterator, Tuple

import torch
from torch import nn

from shared.port_check.trace import LayerCall, Trace
from torch_imagenet.port_check.leaves import array, describe, dtype_name, hooked


class Recorder:
    """Fills a trace with the operands and results of every layer while `network` takes a step.

    A layer gets a copy of its input and hands on a copy of its output, so that operations in place change neither
    record. A copy has the values, the dtype and the layout of the original: the kernels and their results are the same.
    """

    def __init__(self, network: nn.Module, trace: Trace) -> None:
        self._network = network
        self._trace = trace
        self._counts: Dict[str, int] = {}

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Record the forward and backward passes of the block."""
        with hooked(self._network, self._after, self._before), contextlib.ExitStack() as stack:
            for name, parameter in self._network.named_parameters():
                if parameter.requires_grad:
                    record = partial(self._gradient, f"gradient/{name}")
                    stack.callback(parameter.register_post_accumulate_grad_hook(record).remove)
            yield

    def _before(self, name: str, layer: nn.Module, inputs: Tuple[Any, ...]) -> Tuple[Any, ...]:
        key = f"{name}/{self._counts.get(name, 0)}"
        return (self._copied(inputs[0], "input", key), *inputs[1:])

    def _after(self, name: str, layer: nn.Module, inputs: Tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
        number = self._counts.get(name, 0)
        self._counts[name] = number + 1
        dtypes = dtype_name(inputs[0].dtype), dtype_name(output.dtype)
        self._trace.calls.append(LayerCall(name, number, describe(layer), *dtypes))
        return self._copied(output, "output", f"{name}/{number}")

    def _copied(self, value: torch.Tensor, what: str, key: str) -> torch.Tensor:
        self._trace.tensors[f"{what}/{key}"] = array(value)
        copy = value.clone()
        if copy.requires_grad:
            copy.register_hook(partial(self._store, f"{what} gradient/{key}"))
        return copy

    def _store(self, key: str, gradient: torch.Tensor) -> None:
        self._trace.tensors[key] = array(gradient)

    def _gradient(self, key: str, parameter: torch.Tensor) -> None:
        if parameter.grad is not None:
            self._trace.tensors[key] = array(parameter.grad)
