"""What a network of this half costs, counted on torch's meta device: nothing is computed and no memory is taken."""

from __future__ import annotations

import dataclasses
from typing import Any, List

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from shared.roofline import NetworkCost
from torch_imagenet.networks.spec import NetworkSpec, parameters


def network_cost(spec: NetworkSpec, image_size: int) -> NetworkCost:
    """Of the network as it is evaluated, without an auxiliary head, with square images of this side in pixels."""
    options = {name: value for name, value in spec.options.items() if name != "auxiliary_head"}
    with torch.device("meta"):
        network = dataclasses.replace(spec, options=options).make().eval()
        images = torch.empty(1, 3, image_size, image_size)
    outputs: List[int] = []

    def note(layer: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        outputs.append(output.numel())

    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.register_forward_hook(note)
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        network(images)
    return NetworkCost(parameters(network), counted.get_total_flops() // 2, sum(outputs))
