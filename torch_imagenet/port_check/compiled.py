"""Recording a compiled step: the values of every layer are further outputs of the compiled graph."""

from __future__ import annotations

import contextlib
import dataclasses
from functools import partial
from typing import Any, Dict, Iterator, List, Tuple

import torch
from torch import nn

from shared.port_check.trace import LayerCall, Trace
from torch_imagenet.input_pipeline.loader import Batch
from torch_imagenet.port_check.leaves import DTYPES, array, dtype_name
from torch_imagenet.port_check.recorder import Recorder
from torch_imagenet.step.training_step import TrainingStep

GRADIENT = "compiled gradient"  # kind of the tensors of a trace


class CompiledRecorder(Recorder):
    """A `Recorder` whose hooks are compiled with the network of `step`, into the same graph.

    A graph copies nothing to the host and calls no hook of a gradient. So the hooks keep tensors, and add zeros to each
    value; the gradient of the zeros is that of the value. A forward pass that is not compiled, of `images`, normalised
    [B, 3, H, W], shows of which shapes and dtypes the zeros are.
    """

    def __init__(self, step: TrainingStep, trace: Trace, images: torch.Tensor) -> None:
        super().__init__(step.network, trace)
        self._step, self._images = step, images
        self._kept: Dict[str, torch.Tensor] = {}
        self._zeros: Dict[str, torch.Tensor] = {}

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """As `Recorder.recording`: the block's step is compiled anew, and so is the next one after the block."""
        torch.compiler.reset()
        calls = self._prepare()
        with super().recording():
            yield
        torch.compiler.reset()
        for key, value in self._kept.items():
            self._trace.tensors[key] = array(value)
        for key, zeros in self._zeros.items():
            if zeros.grad is not None:
                quantity, _, call = key.partition("/")
                self._trace.tensors[f"{quantity} gradient/{call}"] = array(zeros.grad)
        for one in calls:
            x, y = (dtype_name(self._kept[one.key(what)].dtype) for what in ("input", "output"))
            self._trace.calls.append(dataclasses.replace(one, input_dtype=x, dtype=y))

    def _prepare(self) -> List[LayerCall]:
        """Make the zeros; the calls of the network's layers in order."""
        plain, device = Trace({}), self._step.device
        statistics = [(value, value.clone()) for value in self._network.buffers()]
        recorder = Recorder(self._network, plain)
        try:
            with recorder.recording(), torch.no_grad(), device.autocast(self._step.precision):
                self._network.train()(self._images)
        finally:
            self.inside = recorder.inside
        for value, before in statistics:
            value.copy_(before)
        for call in plain.calls:
            for what, dtype in (("input", call.input_dtype), ("output", call.dtype)):
                shape = plain.tensors[call.key(what)].shape
                zeros = torch.zeros(shape, dtype=DTYPES[dtype], device=device.torch_device)
                self._zeros[call.key(what)] = zeros.requires_grad_()
        return plain.calls

    def _before(self, name: str, layer: nn.Module, inputs: Tuple[Any, ...]) -> Tuple[Any, ...]:
        return (self._copied(inputs[0], "input", f"{name}/{self._counts.get(name, 0)}"), *inputs[1:])

    def _after(self, name: str, layer: nn.Module, inputs: Tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
        number = self._counts.get(name, 0)
        self._counts[name] = number + 1
        return self._copied(output, "output", f"{name}/{number}")

    def _copied(self, value: torch.Tensor, what: str, key: str) -> torch.Tensor:
        copied = value + self._zeros[f"{what}/{key}"] if value.requires_grad else value.clone()
        self._kept[f"{what}/{key}"] = copied.detach().clone()  # an operation in place may change `copied`
        return copied


def take_again(step: TrainingStep, before: Dict[str, Any], batch: Batch, rate: float, trace: Trace) -> None:
    """Take the step again from the state `before`, compiled as for a training; the trace gets its gradients."""
    step.load_state_dict(before)

    def keep(name: str, parameter: torch.Tensor) -> None:
        if parameter.grad is not None:
            trace.tensors[f"{GRADIENT}/{name}"] = array(parameter.grad)

    with contextlib.ExitStack() as stack:
        for name, parameter in step.network.named_parameters():
            if parameter.requires_grad:
                stack.callback(parameter.register_post_accumulate_grad_hook(partial(keep, name)).remove)
        step.run([batch], rate, 0, 0)
