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


def _epsilon(network: Any) -> None:
    network.layer3[20].bn2.eps = 1e-3


def _reversed_groups(network: Any) -> None:
    """The groups of a grouped convolution in another order: what a kernel with a wrong stride would do."""
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


CASES: Dict[str, Tuple[str, Callable[[Any], None], str]] = {
    "wrong epsilon": ("senet154", _epsilon, "layer3.20.bn2"),
    "groups in another order": ("senet154", _reversed_groups, "layer2.1.conv2"),
    "no sigmoid": ("se_resnet50", _gate_without_sigmoid, "layer4.0.se.fc.3"),
    "missing zero padding": ("pnasnet5large", _no_zero_padding, "cell_4."),
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
    assert found.first.layer.startswith(where)
    assert {check.layer for check in found.causes if check.stage in ("forward", "backward")} >= {found.first.layer}
    assert all(check.layer.startswith(where) for check in found.causes if check.stage in ("forward", "backward"))
