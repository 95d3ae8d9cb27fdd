"""The native form of a grouped convolution that is wrong or fails is named, with a form that is right."""

from __future__ import annotations

import copy
from typing import Any, Callable

import pytest
import torch

from shared.errors import UsageError
from shared.port_check.findings import Check, Verdict, verdict
from shared.port_check.trace import Trace
from tests.torch_imagenet.port_check.faults import CLASSES, Fault, recorded, seeded, setup
from tests.torch_imagenet.small_network import SmallNetwork
from torch_imagenet.networks.grouped_conv import GroupedConv2d
from torch_imagenet.port_check import device_errors, grouped_forms
from torch_imagenet.port_check.reference import compare_trace
from torch_imagenet.step.sgd import SGD

LAYER = "layer1.0"


def _network() -> Any:
    return seeded(lambda: SmallNetwork(CLASSES, 0.0, 0.0))


def _faulty(side: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """The native form gives something else, the others are right."""
    layer, forward = side.layer1[0], GroupedConv2d.forward
    layer.forward = lambda x: change(forward(layer, x)) if layer.form == "native" else forward(layer, x)


def _fails(value: torch.Tensor) -> torch.Tensor:
    raise NotImplementedError("no kernel for groups > 1\nEZ9999: inner error")


class _FailsBackward(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, value: torch.Tensor) -> torch.Tensor:
        return value.clone()

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no kernel for the gradient")


def _verdict(*layers: str) -> Verdict:
    return verdict([Check("forward", layer, "output", "", 2.0, 0.1, "") for layer in layers])


@pytest.mark.parametrize("level", ["O0", "O2"])
def test_the_layer_is_named_and_the_forms_that_are_right(level: str) -> None:
    network, run = _network(), setup(level)
    side = copy.deepcopy(network)
    _faulty(side, lambda y: y.flip(1))
    trace = recorded(run, side, Fault("", "", ""), 1)
    found = compare_trace(run.recipe, network, trace).verdict
    faulty = grouped_forms.at_fault(network, trace, found)
    assert faulty == [LAYER]
    line = grouped_forms.line(run, network, trace, faulty, here=True)
    assert line.startswith(f"the native grouped convolution is at fault in {LAYER}; --grouped-conv ")
    assert "dense is right" in line
    assert "split is right" in line


def test_a_form_that_is_wrong_too_is_not_advised(monkeypatch: pytest.MonkeyPatch) -> None:
    network, run = _network(), setup("O0")
    trace = recorded(run, copy.deepcopy(network), Fault("", "", ""), 1)
    right = GroupedConv2d.dense_weight
    monkeypatch.setattr(GroupedConv2d, "dense_weight", lambda self: right(self).flip(0))
    line = grouped_forms.line(run, network, trace, [LAYER, "another"], here=True)
    assert f"in {LAYER} and 1 more; --grouped-conv split computes the same function" in line
    assert "dense is wrong" in line


def test_only_grouped_convolutions_in_the_native_form_are_at_fault() -> None:
    network = _network()
    assert grouped_forms.at_fault(network, Trace({}), _verdict("stem.0", LAYER)) == [LAYER]
    assert grouped_forms.at_fault(network, Trace({"grouped_conv": "dense"}), _verdict(LAYER)) == []
    input_of_it = verdict([Check("forward", LAYER, "input", "", 2.0, 0.1, "")])
    assert grouped_forms.at_fault(network, Trace({}), input_of_it) == []


@pytest.mark.parametrize(
    ("change", "said"), [(_fails, "forward: no kernel for groups > 1;"), (_FailsBackward.apply, "backward: no kernel")]
)
def test_an_error_in_the_layer_names_it(
    change: Callable[[torch.Tensor], torch.Tensor], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []  # on the CPU the fault would be the reference's, too
    monkeypatch.setattr(device_errors, "advice", lambda run, network, trace, name: tried.append(name) or "the advice")
    side = _network()
    _faulty(side, change)
    with pytest.raises(UsageError) as error:
        recorded(setup("O0"), side, Fault("", "", ""), 1)
    assert f"fails in {LAYER} (3x3 convolution, 16 to 16 channels, 4 groups), {said}" in str(error.value)
    assert str(error.value).endswith("; the advice")
    assert tried == [LAYER]


def test_an_error_in_another_layer_names_that() -> None:
    side = _network()
    side.stem[1].forward = _fails
    with pytest.raises(
        UsageError, match=r"fails in stem\.1 \(batch normalisation.*\), forward: .*; try another --prec"
    ):
        recorded(setup("O0"), side, Fault("", "", ""), 1)


def test_an_error_of_the_optimizer_is_not_a_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: SGD) -> None:
        raise RuntimeError("no fused kernel")

    monkeypatch.setattr(SGD, "step", fail)
    with pytest.raises(RuntimeError, match="no fused kernel"):
        recorded(setup("O0"), _network(), Fault("", "", ""), 1)
