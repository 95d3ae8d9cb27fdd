"""The three forms of a grouped convolution are one function, forward and backward, for every shape of SENet154."""

from __future__ import annotations

from typing import Dict, List, Tuple

import pytest
import torch

from torch_imagenet.networks import create
from torch_imagenet.networks.grouped_conv import GroupedConv2d, set_form

Shape = Tuple[int, int, int, int]  # channels, filters, groups, stride


def _shapes() -> List[Shape]:
    with torch.device("meta"):
        network = create("senet154", num_classes=2)
    layers = [layer for layer in network.modules() if isinstance(layer, GroupedConv2d)]
    assert len(layers) == 50
    return sorted({(x.in_channels, x.out_channels, x.groups, x.stride[0]) for x in layers})


def _results(form: str, shape: Shape) -> Dict[str, torch.Tensor]:
    channels, filters, groups, stride = shape
    torch.manual_seed(0)
    layer = GroupedConv2d(channels, filters, 3, stride, padding=1, groups=groups, bias=False, dtype=torch.float64)
    x = torch.randn(2, channels, 5, 6, dtype=torch.float64, requires_grad=True)
    y = set_form(layer, form)(x)
    y.backward(torch.randn(y.shape, dtype=torch.float64))
    return {"output": y.detach(), "input gradient": x.grad, "weight gradient": layer.weight.grad}


@pytest.mark.parametrize("form", ["dense", "split"])
@pytest.mark.parametrize("shape", _shapes())
def test_a_form_equals_the_native_one(shape: Shape, form: str) -> None:
    native, other = _results("native", shape), _results(form, shape)
    for name, value in native.items():
        assert float((other[name] - value).abs().max() / value.abs().max()) < 1e-12, name


def test_the_state_dict_is_the_same_in_every_form() -> None:
    layer = GroupedConv2d(16, 16, 3, groups=4, bias=False)
    native = {name: value.clone() for name, value in layer.state_dict().items()}
    for form in ("dense", "split"):
        assert {n: v.shape for n, v in set_form(layer, form).state_dict().items()} == {"weight": (16, 4, 3, 3)}
        assert torch.equal(layer.state_dict()["weight"], native["weight"])
