"""How few images a batch may have: batch normalisation needs two values of each channel, or there is no deviation."""

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
    """Images that a training batch must have on each device: 1, or 2 where a map of one pixel is normalised.

    A frozen body normalises by what it has learnt; `synchronised` statistics are of all devices' images. Raises
    UsageError where the recipe's batches have fewer.
    """
    layer = None if recipe.freeze_body or synchronised else _on_one_pixel(spec, recipe.image_size)
    if layer is not None and recipe.batch_size < 2:
        raise UsageError(
            f"a batch of one image cannot be trained on: with images of {recipe.image_size} pixels {layer} would"
            " normalise a single value of each channel; use --batch-size 2 or more"
        )
    return 1 if layer is None else 2


def _on_one_pixel(spec: NetworkSpec, image_size: int) -> Optional[str]:
    """The first batch normalisation whose map is of one pixel. On torch's meta device: nothing is computed for it."""
    with torch.device("meta"):
        network = spec.make().train()
        images = torch.empty(2, 3, image_size, image_size)
    found: List[str] = []

    def look(name: str, layer: nn.Module, inputs: Tuple[torch.Tensor, ...]) -> None:
        if inputs[0].shape[2:].numel() == 1:
            found.append(name)

    for name, layer in network.named_modules():
        if isinstance(layer, _BatchNorm):
            layer.register_forward_pre_hook(partial(look, name))
    with torch.no_grad():
        network(images)
    return found[0] if found else None
