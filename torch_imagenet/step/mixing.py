"""MixUp (Zhang et al., arXiv 1710.09412) and CutMix (Yun et al., arXiv 1905.04899), from torchvision."""

from __future__ import annotations

from typing import Any, List, Optional, Tuple

import torch

from shared.recipes.imagenet import ImageNetRecipe
from shared.rng import batch_seed
from torch_imagenet.input_pipeline.transforms import torchvision_transforms


class Mixing:
    """mixing(images, labels, epoch, position) -> images, probabilities float32 [B, K].

    Applies one of `choices` to each batch. The random numbers depend on the seed, the zero-based epoch, the position of
    the batch in it and the rank. They come from the CPU's generator, so nothing waits for the device, and the state of
    that generator is restored afterwards.
    """

    def __init__(self, choices: List[Any], seed: int, rank: int) -> None:
        self._choices, self._seed, self._rank = choices, seed, rank

    @classmethod
    def from_recipe(cls, recipe: ImageNetRecipe, num_classes: int, rank: int = 0) -> Optional[Mixing]:
        """The recipe's mixing; None where it has none. Raises UsageError where torchvision does not load."""
        choices = []
        if recipe.mixup:
            choices.append(torchvision_transforms("--mixup").MixUp(alpha=recipe.mixup, num_classes=num_classes))
        if recipe.cutmix:
            choices.append(torchvision_transforms("--cutmix").CutMix(alpha=recipe.cutmix, num_classes=num_classes))
        return cls(choices, recipe.seed, rank) if choices else None

    def __call__(
        self, images: torch.Tensor, labels: torch.Tensor, epoch: int, position: int
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        """See the class; `images` are normalised, float [B, 3, H, W], `labels` int64 [B]."""
        with torch.random.fork_rng(devices=[]):
            seed = batch_seed(self._seed, epoch, position, self._rank)
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the devices too
            choice = self._choices[int(torch.randint(len(self._choices), ()))]
            mixed, targets = choice(images, labels)
        return mixed, targets.float()
