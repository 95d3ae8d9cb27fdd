"""The smallest batch size: batch normalisation in training needs more than one value per channel."""

from __future__ import annotations

from functools import partial
from typing import List, Optional, Tuple

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from shared.errors import UsageError
from shared.recipes.imagenet import ImageNetRecipe
from torch_imagenet.networks.spec import NetworkSpec


def least_batch(spec: NetworkSpec, recipe: ImageNetRecipe, synchronised: bool = False) -> int:
    """The smallest training batch per device: 1, or 2 where a layer normalises a feature map of one pixel.

    A frozen body normalises by its running statistics, and `synchronised` statistics are over the images of all
    devices: neither has the limit. Raises UsageError where the recipe's batch is smaller.
    """
    layer = None if recipe.freeze_body or synchronised else _on_one_pixel(spec, recipe.image_size)
    if layer is not None and recipe.batch_size < 2:
        raise UsageError(
            f"a batch of one image cannot be trained on: with images of {recipe.image_size} pixels {layer} would"
            " normalise a single value of each channel; use --batch-size 2 or more"
        )
    return 1 if layer is None else 2


def _on_one_pixel(spec: NetworkSpec, image_size: int) -> Optional[str]:
    """The name of the first batch normalisation of a 1 x 1 map. Uses the meta device, which computes nothing."""
    with torch.device("meta"):
        network = spec.make().train()
        images = torch.empty(2, 3, image_size, image_size)
    found: List[str] = []

    def record(name: str, layer: nn.Module, inputs: Tuple[torch.Tensor, ...]) -> None:
        if inputs[0].shape[2:].numel() == 1:
            found.append(name)

    for name, layer in network.named_modules():
        if isinstance(layer, _BatchNorm):
            layer.register_forward_pre_hook(partial(record, name))
    with torch.no_grad():
        network(images)
    return found[0] if found else None
