"""The documented networks as workloads: gradients, running statistics and multiply-adds, counted on the meta device.

The meta device knows shapes alone, so nothing is computed. The backward pass is assumed to divide its time over the
layers in proportion to their multiply-adds.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Dict, List, Tuple

import torch
import torch.distributed as dist
from torch import nn

from benchmarks.scaling.model import Bucket, Workload
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
BUCKET_LIMITS = [2**20, 25 * 2**20]  # bytes of the first and of the others, as in torch's DistributedDataParallel


def recipe(network: str) -> ImageNetRecipe:
    """The documented recipe of a network, whose images per step and device `RATES` are for."""
    found: ImageNetRecipe = recipes.get(DOCUMENTED[network][0])  # type: ignore[assignment]
    return found


def documented_rate(network: str, devices: int) -> float:
    """The best documented images per second of this number of NPUs together."""
    rows = [row for row in ROWS if row.network == network and f"{devices} x NPU" in (row.hardware or "")]
    return max(row.images_per_second for row in rows if row.images_per_second)


# Images per second of one device; their sources are in docs/scaling.md.
RATES: Dict[str, Dict[str, float]] = {
    "ascend910": {network: documented_rate(network, devices) / devices for network, (_, devices) in DOCUMENTED.items()},
    "rtx3090": {"senet154": 170.3, "se_resnet50": 972.0, "pnasnet5large": 83.2},
    "h200": {"senet154": 800.0, "se_resnet50": 5800.0, "pnasnet5large": 380.0},
}


def workload(network: str, rates: str = "ascend910", level: str = "") -> Workload:
    """A network as its recipe trains it on one device with these rates, at the recipe's or another precision level.

    Raises UsageError for an unknown level.
    """
    counted = _counted(network, precision(level or recipe(network).precision).weights)
    return dataclasses.replace(counted, step_seconds=counted.batch_size / RATES[rates][network])


@functools.lru_cache(maxsize=None)  # building a network takes a second
def _counted(network: str, weights: torch.dtype) -> Workload:
    chosen = recipe(network)
    with torch.device("meta"):
        model = NetworkSpec.from_recipe(chosen, CLASSES).make()
        images = torch.empty(2, 3, chosen.image_size, chosen.image_size)
        layers: List[Tuple[nn.Module, int]] = []  # in the order of the forward pass, with their multiply-adds

        def record(layer: Any, inputs: Any, output: Any) -> None:
            is_counted = isinstance(layer, (nn.Conv2d, nn.Linear))
            layers.append((layer, output.numel() * layer.weight[0].numel() if is_counted else 0))

        for layer in model.modules():
            layer.register_forward_hook(record)
        model.train()(images)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    statistics = sum(value.numel() for value in model.buffers() if value.is_floating_point())
    if weights != torch.float32:
        to_half(model, weights)
    macs = sum(cost for _, cost in layers)
    ready: Dict[torch.Tensor, float] = {}  # parameters in the order of the backward pass
    done = 0
    for layer, cost in reversed(layers):
        done += cost
        for parameter in reversed(list(layer.parameters(recurse=False))):
            ready.setdefault(parameter, done / macs)
    exchanged = 4 * (statistics + REDUCED_WITH_STATISTICS)
    return Workload(chosen.batch_size, 0.0, _buckets(ready), exchanged, parameters, macs // len(images))


def _buckets(ready: Dict[torch.Tensor, float]) -> Tuple[Bucket, ...]:
    """The buckets as torch's DistributedDataParallel fills them."""
    tensors = list(ready)
    groups, _ = dist._compute_bucket_assignment_by_size(tensors, BUCKET_LIMITS)
    members = [[tensors[index] for index in group] for group in groups]
    buckets = [Bucket(sum(one.nbytes for one in group), max(ready[one] for one in group)) for group in members]
    return tuple(sorted(buckets, key=lambda bucket: bucket.ready))
