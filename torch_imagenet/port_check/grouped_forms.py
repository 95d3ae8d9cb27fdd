"""Which forms of a grouped convolution are right on a device, at the operands that a layer had in a recorded step."""

from __future__ import annotations

import copy
import time
from typing import Callable, List, NamedTuple, Sequence

import torch
from torch import nn

from shared.errors import one_line
from shared.port_check.findings import Verdict
from shared.port_check.trace import Trace
from torch_imagenet.devices.device import MEMORY_FORMATS
from torch_imagenet.devices.precision import to_half
from torch_imagenet.networks.grouped_conv import GroupedConv2d, set_form
from torch_imagenet.options import GROUPED_CONV
from torch_imagenet.port_check.checks import Problem, layer_checks
from torch_imagenet.port_check.leaves import array, tensor
from torch_imagenet.port_check.recorder import Recorder
from torch_imagenet.run.setup import RunSetup

OWN = ("output", "input gradient", "weight gradient")  # what the layer itself computes
TIMED = 3
NATIVE = GROUPED_CONV[0]
OTHERS = "--grouped-conv dense and split compute"


class Tried(NamedTuple):
    """A form on the device: its largest error in units of the tolerance, milliseconds of forward and backward."""

    form: str
    units: float = 0.0
    milliseconds: float = 0.0
    error: str = ""  # what the device said, where it failed

    @property
    def right(self) -> bool:
        """Whether rounding explains the form's errors."""
        return not self.error and self.units <= 1

    def __str__(self) -> str:
        if self.error:
            return f"{self.form} fails ({self.error})"
        verdict = "right" if self.right else "wrong"
        return f"{self.form} is {verdict} ({self.units:.2g} of its tolerance, {self.milliseconds:.2g} ms)"


def at_fault(network: nn.Module, trace: Trace, verdict: Verdict) -> List[str]:
    """The grouped convolutions that were computed in the native form and are out of tolerance by themselves."""
    layers, found = dict(network.named_modules()), [check.layer for check in verdict.causes if check.quantity in OWN]
    native = trace.description.get("grouped_conv", NATIVE) == NATIVE
    return [name for name in dict.fromkeys(found) if native and isinstance(layers.get(name), GroupedConv2d)]


def line(setup: RunSetup, network: nn.Module, trace: Trace, faulty: Sequence[str], here: bool) -> str:
    """For the log: which layers are at fault, and what to do; `here` says whether the trace is of this device."""
    more = f" and {len(faulty) - 1} more" if len(faulty) > 1 else ""
    use = advice(setup, network, trace, faulty[0]) if here else f"{OTHERS} the same function"
    return f"the native grouped convolution is at fault in {faulty[0]}{more}; {use}"


def advice(setup: RunSetup, network: nn.Module, trace: Trace, name: str) -> str:
    """What computes the same as the native form of layer `name`: the other forms, tried on its first operands here."""
    layer = dict(network.named_modules())[name]
    tried = [_tried(form, layer, trace, name, setup) for form in GROUPED_CONV[1:]]
    right = sorted((one for one in tried if one.right), key=lambda one: one.milliseconds)
    use = f"--grouped-conv {right[0].form} computes" if right else OTHERS
    return f"{use} the same function (tried on its operands: {', '.join(map(str, tried))})"


def _tried(form: str, layer: nn.Module, trace: Trace, name: str, setup: RunSetup) -> Tried:
    """Forward and backward of the layer in this form on the device, each value compared with float64 on the CPU."""
    device, precision = setup.device, setup.precision
    side, reference = nn.Sequential(), nn.Sequential()
    for network in (side, reference):
        network.add_module("layer", copy.deepcopy(layer).cpu().float())
        network.load_state_dict({"layer.weight": tensor(trace.tensors[f"before/{name}.weight"], torch.float32)})
    x = tensor(trace.tensors[f"input/{name}/0"], precision.autocast or precision.weights)
    given = trace.tensors.get(f"output gradient/{name}/0")
    exact, size = x.double().requires_grad_(), x.double().abs().requires_grad_()
    set_form(device.place(side, setup.memory_format), form)
    if precision.weights != torch.float32:
        to_half(side, precision.weights)
    x = x.to(device.torch_device).contiguous(memory_format=MEMORY_FORMATS[setup.memory_format]).requires_grad_()
    recorded = Trace({"loss_scale": 1.0})

    def step() -> torch.Tensor:
        """The sum over the products of output and gradient."""
        with device.autocast(precision):
            y: torch.Tensor = side(x)
        gradient = y.detach() if given is None else tensor(given, y.dtype).to(y.device)
        y.backward(gradient)
        return (y.detach() * gradient).sum()

    def loss(y: torch.Tensor) -> torch.Tensor:
        return (y * tensor(recorded.tensors["output gradient/layer/0"], y.dtype)).sum()

    try:
        with Recorder(side, recorded).recording():
            recorded.tensors["losses"] = array(step()[None].double())
        checks = layer_checks(Problem(reference.double(), exact, size, loss), recorded)
        units = max(check.units for check in checks if check.quantity in OWN)
        return Tried(form, units, _milliseconds(step, setup))
    except RuntimeError as error:
        return Tried(form, error=reason(error))


def _milliseconds(step: Callable[[], object], setup: RunSetup) -> float:
    """Of the fastest of a few runs of `step`."""
    times = []
    for _ in range(TIMED):
        setup.device.synchronize()
        begin = time.perf_counter()
        step()
        setup.device.synchronize()
        times.append(1000 * (time.perf_counter() - begin))
    return min(times)


def reason(error: BaseException) -> str:
    """The first line of a device's message."""
    lines = str(error).strip().splitlines()
    return one_line(lines[0]) if lines else type(error).__name__
