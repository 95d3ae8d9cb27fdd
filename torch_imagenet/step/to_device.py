"""A batch goes to the device: its images are normalised there, then erased in part, and mixed by MixUp or CutMix."""

from __future__ import annotations

from typing import Any, Callable, List, Optional, Sequence, Tuple

import torch

from shared.recipes.imagenet import ImageNetRecipe
from shared.rng import batch_seed
from torch_imagenet.input_pipeline.transforms import torchvision_transforms

Mixing = Callable[[torch.Tensor, torch.Tensor, int, int], Tuple[torch.Tensor, torch.Tensor]]


class Normalisation:
    """uint8 [B, H, W, 3] -> `dtype` [B, 3, H, W]: (pixel / 255 - mean) / std for each channel, computed in float32.

    The images go to the device first, so that uint8 is transferred, a quarter of the bytes of float32. With
    `channels_last` the result keeps the memory order of the input, and nothing is transposed.
    """

    def __init__(
        self, mean: Sequence[float], std: Sequence[float], device: torch.device, dtype: torch.dtype, channels_last: bool
    ) -> None:
        deviation = torch.tensor(std, dtype=torch.float64) * 255
        self._scale = (1 / deviation).float().to(device)
        self._shift = (-torch.tensor(mean, dtype=torch.float64) * 255 / deviation).float().to(device)
        self._dtype = dtype
        self._format = torch.channels_last if channels_last else torch.contiguous_format

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        # On whole rows and in place: broadcasting over 3 channels into new memory takes twice as long on a CPU.
        width = images.shape[2]
        rows = images.to(self._scale.device, non_blocking=True).flatten(2).float()
        torch.addcmul(self._shift.repeat(width), rows, self._scale.repeat(width), out=rows)
        normalised = rows.unflatten(2, (width, 3)).to(self._dtype).permute(0, 3, 1, 2)
        return normalised.contiguous(memory_format=self._format)


def mixing(recipe: ImageNetRecipe, num_classes: int, rank: int = 0) -> Optional[Mixing]:
    """Random erasing, then MixUp or CutMix, all from torchvision.

    Zhong et al., arXiv 1708.04896; Zhang et al., arXiv 1710.09412; Yun et al., arXiv 1905.04899.

    mix(images, labels, epoch, position) -> images, probabilities float32 [B, K], or the labels where nothing is mixed;
    None where the recipe has none of them. Erased pixels are zeros: the mean colour of normalised images, else black.

    `images` are normalised, float [B, 3, H, W], `labels` int64 [B]. The random numbers depend on the recipe's seed, the
    zero-based epoch, the position of the batch in it and the rank. They come from the CPU's generator, so nothing waits
    for the device, and the state of that generator is restored afterwards. Raises UsageError without torchvision.
    """
    choices: List[Any] = []
    if recipe.mixup:
        choices.append(torchvision_transforms("--mixup").MixUp(alpha=recipe.mixup, num_classes=num_classes))
    if recipe.cutmix:
        choices.append(torchvision_transforms("--cutmix").CutMix(alpha=recipe.cutmix, num_classes=num_classes))

    erase: Any = None
    if recipe.erasing:
        erase = torchvision_transforms("--erasing").RandomErasing(recipe.erasing, inplace=True)

    def mix(images: torch.Tensor, labels: torch.Tensor, epoch: int, position: int) -> Tuple[torch.Tensor, torch.Tensor]:
        with torch.random.fork_rng(devices=[]):
            seed = batch_seed(recipe.seed, epoch, position, rank)
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the devices too
            if erase is not None:
                images = images.clone()
                for image in images:
                    erase(image)
            if not choices:
                return images, labels
            choice = choices[int(torch.randint(len(choices), ()))]
            mixed, targets = choice(images, labels)
        return mixed, targets.float()

    return mix if choices or erase is not None else None
