"""A device that truncates the factors of its float32 convolutions, as NVIDIA's TF32 and Ascend's HF32 may."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any, Dict, Tuple

import pytest
import torch
from torch import nn
from torch.nn.grad import conv2d_input, conv2d_weight

from shared.port_check.findings import Verdict
from tests.torch_imagenet.port_check.faults import FAULTS, TinySENet, recorded, seeded, setup
from torch_imagenet.devices.device import Device, open_device
from torch_imagenet.port_check.reference import compare_trace

BITS = {"tf32": 13, "hf32": 12}  # that a factor loses


def truncated(value: torch.Tensor, kind: str) -> torch.Tensor:
    return (value.contiguous().view(torch.int32) & -(1 << BITS[kind])).view(torch.float32)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: torch.Tensor, weight: torch.Tensor, layer: nn.Conv2d, kind: str) -> torch.Tensor:
        x, weight = truncated(x, kind), truncated(weight, kind)
        context.save_for_backward(x, weight)
        context.layer, context.kind = layer, kind
        return nn.functional.conv2d(x, weight, None, layer.stride, layer.padding)

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> Any:
        (x, weight), layer, g = context.saved_tensors, context.layer, truncated(gradient, context.kind)
        to_input = conv2d_input(x.shape, weight, g, layer.stride, layer.padding)
        return to_input, conv2d_weight(x, weight.shape, g, layer.stride, layer.padding), None, None


def truncating(network: nn.Module, kind: str) -> nn.Module:
    """The network with such convolutions."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):

            def forward(x: torch.Tensor, layer: nn.Conv2d = module) -> torch.Tensor:
                y = _Convolution.apply(x, layer.weight, layer, kind)
                return y if layer.bias is None else y + layer.bias[:, None, None]

            module.forward = forward  # type: ignore[method-assign]
    return network


class Truncating(Device):
    """The CPU, saying so."""

    @property
    def float32_products(self) -> Dict[str, str]:
        return {"convolution": self.name}


def verdict(kind: str, says: bool, fault: str = "") -> Verdict:
    device = Truncating("cpu", torch.device("cpu"), kind) if says else open_device("cpu")
    network = seeded(TinySENet)
    side = truncating(copy.deepcopy(network), kind)
    planted = FAULTS[fault] if fault else FAULTS["wrong epsilon"]._replace(network=lambda network: None)
    planted.network(side)
    run = setup("O0", device)
    return compare_trace(run.recipe, network, recorded(run, side, planted, 2)).verdict


@pytest.mark.parametrize("kind", BITS)
def test_what_a_device_says_that_it_rounds_is_no_difference(kind: str) -> None:
    found = verdict(kind, says=True)
    assert found.first is None, found.first
    convolutions = [check for check in found.checks if "convolution" in check.text and check.quantity == "output"]
    assert 0.05 < max(check.units for check in convolutions) <= 1


@pytest.mark.parametrize("kind", BITS)
def test_what_it_does_not_say_is_one(kind: str) -> None:
    first = verdict(kind, says=False).first
    assert first is not None
    assert (first.stage, first.layer, first.quantity) == ("forward", "stem.0", "output")


@pytest.mark.parametrize("fault", ["wrong epsilon", "kernel transposed in use", "gate after the addition"])
def test_faults_are_found_all_the_same(fault: str) -> None:
    first, planted = verdict("tf32", says=True, fault=fault).first, FAULTS[fault]
    assert first is not None
    assert first.layer.startswith(planted.layer)
    assert (first.stage, planted.quantity in first.quantity) == (planted.stage, True)


@pytest.mark.parametrize(
    ("kind", "capability", "allowed", "override", "expected"),
    [
        ("cuda", (9, 0), (True, False), None, {"convolution": "tf32"}),
        ("cuda", (8, 0), (True, True), None, {"convolution": "tf32", "linear": "tf32"}),
        ("cuda", (8, 0), (True, True), "0", {}),
        ("cuda", (7, 0), (True, True), None, {}),
        ("cuda", (9, 0), (False, False), None, {}),
        ("cpu", (9, 0), (True, True), None, {}),
    ],
)
def test_where_nvidia_uses_tf32(
    kind: str,
    capability: Tuple[int, int],
    allowed: Tuple[bool, bool],
    override: Any,
    expected: Dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.backends, "cudnn", SimpleNamespace(allow_tf32=allowed[0]))
    monkeypatch.setattr(torch.backends.cuda, "matmul", SimpleNamespace(allow_tf32=allowed[1]))
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    if override is not None:
        monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", override)
    assert Device(kind, torch.device("cpu"), "").float32_products == expected
