"""Gradients, running statistics and multiply-adds of each network, counted on torch's meta device.

The meta device knows shapes alone, so nothing is computed. The backward pass is assumed to divide its time over the
layers in proportion to their multiply-adds.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Dict, List, NamedTuple, Tuple

import torch
from torch import nn

from benchmarks.scaling.model import Gradient, Workload, buckets
from shared import recipes
from shared.recipes.imagenet import ImageNetRecipe
from shared.results.documented import ROWS
from torch_imagenet.devices.precision import precision, to_half
from torch_imagenet.networks.spec import NetworkSpec

# The recipe of the documented 8-device row, and the number of devices of the documented rate.
DOCUMENTED = {
    "senet154": ("senet154_cosine", 8),
    "se_resnet50": ("se_resnet50_8p", 1),
    "pnasnet5large": ("pnasnet5large_8p", 1),
}
CLASSES = 1000
REDUCED_WITH_STATISTICS = 4  # loss and counts; see torch_imagenet/distributed/data_parallel.py


class Counted(NamedTuple):
    """A network at the image size of its recipe; `gradients` are in the order of the backward pass."""

    recipe: ImageNetRecipe
    gradients: Tuple[Gradient, ...]
    statistics_bytes: int
    parameters: int
    macs: int  # multiply-adds of the forward pass, per image

    def size(self) -> int:
        """The bytes of all gradients."""
        return sum(gradient.size for gradient in self.gradients)


def count(network: str, level: str = "") -> Counted:
    """Count a documented network at a precision level, by default the recipe's. Raises UsageError for others."""
    recipe: ImageNetRecipe = recipes.get(DOCUMENTED[network][0])  # type: ignore[assignment]
    return _count(recipe, precision(level or recipe.precision).weights, CLASSES)


@functools.lru_cache(maxsize=None)  # building a network takes a second
def _count(recipe: ImageNetRecipe, weights: torch.dtype, classes: int) -> Counted:
    with torch.device("meta"):
        model = NetworkSpec.from_recipe(recipe, classes).make()
        images = torch.empty(2, 3, recipe.image_size, recipe.image_size)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        statistics = sum(value.numel() for value in model.buffers() if value.is_floating_point())
        layers = _layers(model, images)
    if weights != torch.float32:
        to_half(model, weights)
    macs = sum(cost for _, cost in layers)
    gradients, done, seen = [], 0, set()
    for module, cost in reversed(layers):
        done += cost
        for parameter in reversed(list(module.parameters(recurse=False))):
            if parameter not in seen:
                seen.add(parameter)
                size = parameter.numel() * parameter.element_size()
                gradients.append(Gradient(size, str(parameter.dtype), done / macs))
    exchanged = 4 * (statistics + REDUCED_WITH_STATISTICS)
    return Counted(recipe, tuple(gradients), exchanged, parameters, macs // len(images))


def _layers(network: nn.Module, images: torch.Tensor) -> List[Tuple[nn.Module, int]]:
    """Modules with parameters of their own, in the order of the forward pass, and their multiply-adds for `images`."""
    found: List[Tuple[nn.Module, int]] = []

    def record(module: Any, inputs: Any, output: torch.Tensor) -> None:
        cost = 0
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            cost = output.numel() * module.weight[0].numel()
        found.append((module, cost))

    for module in network.modules():
        if next(module.parameters(recurse=False), None) is not None:
            module.register_forward_hook(record)
    network.train()(images)
    return found


def image_size(network: str) -> int:
    """The image size of the documented recipe, in pixels."""
    recipe: ImageNetRecipe = recipes.get(DOCUMENTED[network][0])  # type: ignore[assignment]
    return recipe.image_size


def documented_rate(network: str, devices: int = 0) -> float:
    """The best documented images per second of this number of NPUs; without a number, per NPU."""
    count_of = devices or DOCUMENTED[network][1]
    rates = [
        row.images_per_second
        for row in ROWS
        if row.network == network and f"{count_of} x NPU" in (row.hardware or "") and row.images_per_second
    ]
    return max(rates) / (1 if devices else count_of)


# Images per second of one device; their sources are in benchmarks/scaling/README.md.
RATES: Dict[str, Dict[str, float]] = {
    "ascend910": {network: documented_rate(network) for network in DOCUMENTED},
    "rtx3090": {"senet154": 170.3, "se_resnet50": 972.0, "pnasnet5large": 83.2},
    "h200": {"senet154": 800.0, "se_resnet50": 5800.0, "pnasnet5large": 380.0},
}


def workload(network: str, rates: str = "ascend910", level: str = "") -> Workload:
    """The network as its recipe trains it, on one device with these rates."""
    counted = count(network, level)
    batch = counted.recipe.batch_size
    return Workload(
        network,
        batch,
        batch / RATES[rates][network],
        buckets(counted.gradients),
        counted.statistics_bytes,
        counted.parameters,
    )


def sample_workload(image_size: int, batch_size: int, step_seconds: float) -> Workload:
    """SE-ResNet-50 in float32 with the ten classes of the embedded sample."""
    recipe: ImageNetRecipe = recipes.get("imagenet_sample")  # type: ignore[assignment]
    counted = _count(dataclasses.replace(recipe, image_size=image_size), torch.float32, 10)
    sizes = buckets(counted.gradients), counted.statistics_bytes, counted.parameters
    return Workload("se_resnet50", batch_size, step_seconds, *sizes)


def with_step(workload: Workload, batch_size: int, step_seconds: float) -> Workload:
    """The workload with another batch and step time."""
    return dataclasses.replace(workload, batch_size=batch_size, step_seconds=step_seconds)
