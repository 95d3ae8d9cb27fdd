"""One fault in each of the real networks: it is found where it is, and every other layer is right by itself."""

from __future__ import annotations

import copy
from typing import Any, Callable, Dict, Tuple

import pytest
import torch
from torch import nn

from shared import recipes
from tests.torch_imagenet.port_check.faults import CLASSES, Fault, recorded, seeded, setup
from torch_imagenet.networks import create
from torch_imagenet.port_check.reference import compare_trace


def _groups_and_epsilon(network: Any) -> None:
    """The groups of a grouped convolution in another order, what a kernel with a wrong stride does; a wrong epsilon."""
    network.layer3[20].bn2.eps = 1e-3
    layer = network.layer2[1].conv2
    weight = layer.weight

    def forward(x: torch.Tensor) -> torch.Tensor:
        parts = x.chunk(layer.groups, dim=1)[::-1]
        return nn.functional.conv2d(torch.cat(parts, dim=1), weight, None, layer.stride, 1, 1, layer.groups)

    layer.forward = forward


def _gate_without_sigmoid(network: Any) -> None:
    network.layer4[0].se.fc[3] = nn.Identity()


def _no_zero_padding(network: Any) -> None:
    """The original port's padding in one cell."""
    for layer in network.cell_4.modules():
        if hasattr(layer, "shifted"):
            layer.shifted = False


CASES: Dict[str, Tuple[str, Callable[[Any], None], Tuple[str, ...]]] = {
    "two faults": ("senet154", _groups_and_epsilon, ("layer2.1.conv2", "layer3.20.bn2")),
    "no sigmoid": ("se_resnet50", _gate_without_sigmoid, ("layer4.0.se.fc.3",)),
    "missing zero padding": ("pnasnet5large", _no_zero_padding, ("cell_4.",)),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_fault_is_found_and_nothing_else(case: str) -> None:
    name, plant, where = CASES[case]
    network = seeded(lambda: create(name, num_classes=CLASSES, dropout=0.0))
    side = copy.deepcopy(network)
    plant(side)
    recipe = recipes.get(f"{name}_1p").override(label_smoothing=0.1, auxiliary_weight=0.0)
    run = setup("O0", recipe=recipe)
    found = compare_trace(run.recipe, network, recorded(run, side, Fault("", "", ""), 1)).verdict
    assert found.first is not None
    assert found.first.stage == "forward"
    assert found.first.layer.startswith(where[0])
    wrong = {check.layer for check in found.causes if check.stage in ("forward", "backward")}
    assert all(layer.startswith(where) for layer in wrong)
    assert all(any(layer.startswith(part) for layer in wrong) for part in where)
