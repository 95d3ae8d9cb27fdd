"""Parameters, multiply-adds and activations of a network, counted on torch's meta device, which computes nothing."""

from __future__ import annotations

import dataclasses
from typing import List, Optional

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from shared.recipes.imagenet import ImageNetRecipe
from shared.roofline import Accelerator, NetworkCost, element_bytes
from torch_imagenet.networks.spec import NetworkSpec, parameters


def network_cost(spec: NetworkSpec, image_size: int) -> NetworkCost:
    """The cost of one image of `image_size` x `image_size` pixels in evaluation, without an auxiliary head."""
    options = {name: value for name, value in spec.options.items() if name != "auxiliary_head"}
    with torch.device("meta"):
        network = dataclasses.replace(spec, options=options).make().eval()
        images = torch.empty(1, 3, image_size, image_size)
    activations: List[int] = []
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.register_forward_hook(lambda layer, inputs, output: activations.append(output.numel()))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(images)
    return NetworkCost(parameters(network), counter.get_total_flops() // 2, sum(activations))


def roofline_seconds(spec: NetworkSpec, recipe: ImageNetRecipe, accelerator: Optional[Accelerator]) -> Optional[float]:
    """The shortest possible training step of this recipe on one device; None where its limits are not known."""
    if accelerator is None:
        return None
    images = recipe.batch_size * recipe.accumulate
    return accelerator.roofline_seconds(network_cost(spec, recipe.image_size), images, element_bytes(recipe.precision))
