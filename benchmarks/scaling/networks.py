"""What each network exchanges, counted on the network itself: gradients in their order, running statistics, MACs.

Nothing is computed: the networks are made on torch's meta device, which knows shapes alone. The backward pass is taken
to spend its time on the layers in proportion to their multiply-adds.
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

# The recipe of the documented 8-device row, and how many devices the documented rate is of: SENet154 has no other.
DOCUMENTED = {
    "senet154": ("senet154_cosine", 8),
    "se_resnet50": ("se_resnet50_8p", 1),
    "pnasnet5large": ("pnasnet5large_8p", 1),
}
CLASSES = 1000
REDUCED_WITH_STATISTICS = 4  # loss and counts, see torch_imagenet/distributed/data_parallel.py


class Counted(NamedTuple):
    """A network at its recipe's image size; `gradients` in the order in which the backward pass makes them."""

    recipe: ImageNetRecipe
    gradients: Tuple[Gradient, ...]
    statistics_bytes: int
    parameters: int
    macs: int  # multiply-adds an image of the forward pass

    def size(self) -> int:
        """Bytes of all gradients."""
        return sum(gradient.size for gradient in self.gradients)


def count(network: str, level: str = "") -> Counted:
    """The documented network in a precision; "" is the recipe's own. Raises UsageError for an unknown one."""
    recipe: ImageNetRecipe = recipes.get(DOCUMENTED[network][0])  # type: ignore[assignment]
    return _count(recipe, precision(level or recipe.precision).weights, CLASSES)


@functools.lru_cache(maxsize=None)  # making a network takes a second
def _count(recipe: ImageNetRecipe, weights: torch.dtype, classes: int) -> Counted:
    with torch.device("meta"):
        made = NetworkSpec.from_recipe(recipe, classes).make()
        images = torch.empty(2, 3, recipe.image_size, recipe.image_size)
        parameters = sum(parameter.numel() for parameter in made.parameters())
        statistics = sum(value.numel() for value in made.buffers() if value.is_floating_point())
        layers = _layers(made, images)
    if weights != torch.float32:
        to_half(made, weights)
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
    """Modules with parameters of their own in the order of the forward pass, with their multiply-adds for `images`."""
    found: List[Tuple[nn.Module, int]] = []

    def note(module: Any, inputs: Any, output: torch.Tensor) -> None:
        cost = 0
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            cost = output.numel() * module.weight[0].numel()
        found.append((module, cost))

    for module in network.modules():
        if next(module.parameters(recurse=False), None) is not None:
            module.register_forward_hook(note)
    network.train()(images)
    return found


def image_size(network: str) -> int:
    """Pixels a side that the documented recipe trains on."""
    recipe: ImageNetRecipe = recipes.get(DOCUMENTED[network][0])  # type: ignore[assignment]
    return recipe.image_size


def documented_rate(network: str, devices: int = 0) -> float:
    """Images a second of so many NPUs in the original's document, its best row; without a number, of one of them."""
    count_of = devices or DOCUMENTED[network][1]
    rates = [
        row.images_per_second
        for row in ROWS
        if (row.network, row.hardware, row.devices) == (network, "NPU", count_of) and row.images_per_second
    ]
    return max(rates) / (1 if devices else count_of)


# Images a second of one device by whom: see the table of inputs in benchmarks/scaling/README.md.
RATES: Dict[str, Dict[str, float]] = {
    "ascend910": {network: documented_rate(network) for network in DOCUMENTED},
    "rtx3090": {"senet154": 170.3, "se_resnet50": 972.0, "pnasnet5large": 83.2},
    "h200": {"senet154": 800.0, "se_resnet50": 5800.0, "pnasnet5large": 380.0},
}


def workload(network: str, rates: str = "ascend910", level: str = "") -> Workload:
    """The network as its recipe trains it, on one device of that kind."""
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
    """SE-ResNet-50 with the ten classes of the embedded sample, in float32."""
    recipe: ImageNetRecipe = recipes.get("imagenet_sample")  # type: ignore[assignment]
    counted = _count(dataclasses.replace(recipe, image_size=image_size), torch.float32, 10)
    sizes = buckets(counted.gradients), counted.statistics_bytes, counted.parameters
    return Workload("se_resnet50", batch_size, step_seconds, *sizes)


def with_step(given: Workload, batch_size: int, step_seconds: float) -> Workload:
    """The same with a batch and a step time of one's own."""
    return dataclasses.replace(given, batch_size=batch_size, step_seconds=step_seconds)
