"""MixUp (Zhang et al., arXiv 1710.09412) and CutMix (Yun et al., arXiv 1905.04899), from torchvision."""

from __future__ import annotations

from typing import Any, Callable, List, Optional, Tuple

import torch

from shared.recipes.imagenet import ImageNetRecipe
from shared.rng import batch_seed
from torch_imagenet.input_pipeline.transforms import torchvision_transforms

Mixing = Callable[[torch.Tensor, torch.Tensor, int, int], Tuple[torch.Tensor, torch.Tensor]]


def mixing(recipe: ImageNetRecipe, num_classes: int, rank: int = 0) -> Optional[Mixing]:
    """mix(images, labels, epoch, position) -> images, probabilities float32 [B, K]; None where the recipe has none.

    `images` are normalised, float [B, 3, H, W], `labels` int64 [B]. The random numbers depend on the recipe's seed, the
    zero-based epoch, the position of the batch in it and the rank. They come from the CPU's generator, so nothing waits
    for the device, and the state of that generator is restored afterwards. Raises UsageError without torchvision.
    """
    choices: List[Any] = []
    if recipe.mixup:
        choices.append(torchvision_transforms("--mixup").MixUp(alpha=recipe.mixup, num_classes=num_classes))
    if recipe.cutmix:
        choices.append(torchvision_transforms("--cutmix").CutMix(alpha=recipe.cutmix, num_classes=num_classes))

    def mix(images: torch.Tensor, labels: torch.Tensor, epoch: int, position: int) -> Tuple[torch.Tensor, torch.Tensor]:
        with torch.random.fork_rng(devices=[]):
            seed = batch_seed(recipe.seed, epoch, position, rank)
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the devices too
            choice = choices[int(torch.randint(len(choices), ()))]
            mixed, targets = choice(images, labels)
        return mixed, targets.float()

    return mix if choices else None
