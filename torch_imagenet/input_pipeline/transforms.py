"""Image transforms, from a decoded image, or a JPEG, to uint8 [size, size, 3]. All are pure functions.

Training: a random resized crop (Szegedy et al., arXiv 1409.4842, section 6; torchvision's RandomResizedCrop) and a
horizontal flip. Evaluation: torchvision's Resize and CenterCrop, bit for bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Optional, Tuple, Union

import numpy as np
import torch
from PIL import Image

from shared.errors import UsageError
from shared.imagenet.decode import centre_crop, centre_window
from shared.recipes.imagenet import ImageNetRecipe
from shared.rng import image_random
from torch_imagenet.input_pipeline.jpeg_crop import Box, JpegFile, NotDecoded

Decodable = Union[Image.Image, JpegFile]  # an image that is decoded, or of which what is needed will be


@dataclass(frozen=True)
class TrainTransform:
    """The augmentation of training."""

    image_size: int
    crop_scale: Tuple[float, float] = (0.08, 1.0)  # share of the image's area
    crop_ratio: Tuple[float, float] = (3 / 4, 4 / 3)  # width to height
    flip: bool = True
    randaugment: Tuple[int, ...] = ()  # operations and magnitude of torchvision's RandAugment (arXiv 1909.13719)
    trivialaugment: bool = False  # torchvision's TrivialAugmentWide (arXiv 2103.10158)

    @classmethod
    def from_recipe(cls, recipe: ImageNetRecipe) -> TrainTransform:
        """The augmentation of a recipe."""
        return cls(
            recipe.image_size,
            recipe.crop_scale,
            flip=recipe.flip,
            randaugment=recipe.randaugment,
            trivialaugment=recipe.trivialaugment,
        )

    @property
    def augmented_by(self) -> str:
        """The option whose operations torchvision does; empty: none."""
        return "--randaugment" if self.randaugment else "--trivialaugment" if self.trivialaugment else ""

    def __call__(
        self, image: Decodable, seed: int, epoch: int, index: int, reuse: Optional[np.random.RandomState] = None
    ) -> np.ndarray:
        """RGB to uint8 [size, size, 3]; what it draws depends on the arguments of `shared.rng.image_random` alone.

        Raises NotDecoded for a JPEG that is to be decoded by Pillow.
        """
        random = image_random(seed, epoch, index, reuse)
        box = random_resized_crop(random, image.width, image.height, self.crop_scale, self.crop_ratio)
        mirrored = random.random_sample() < 0.5 and self.flip
        if isinstance(image, JpegFile) and not self.augmented_by:
            return image.resized(box, (self.image_size, self.image_size), mirrored=mirrored)
        cropped = cut_out(image, box, self.image_size)
        if self.augmented_by:
            seed, v2 = int(random.randint(2**31 - 1)), torchvision_transforms(self.augmented_by)
            augment = v2.RandAugment(*self.randaugment) if self.randaugment else v2.TrivialAugmentWide()
            with torch.random.fork_rng(devices=[]):  # it draws from torch's default generator
                torch.default_generator.manual_seed(seed)
                cropped = augment(cropped)
        if mirrored:  # by Pillow: NumPy takes four times as long to copy reversed rows
            cropped = cropped.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return np.asarray(cropped)


@dataclass(frozen=True)
class EvalTransform:
    """torchvision's Resize(int(image_size / crop_fraction)) and CenterCrop(image_size)."""

    image_size: int
    crop_fraction: float = 0.875
    keep_aspect: bool = True  # False: the image is squeezed to a square instead

    @property
    def shorter_side(self) -> int:
        """Of the image after it is resized, in pixels."""
        return int(self.image_size / self.crop_fraction)

    def __call__(self, image: Decodable, *unused: Any) -> np.ndarray:
        """RGB to uint8 [size, size, 3]; `TrainTransform` draws from the `unused` arguments. Raises as that does."""
        if isinstance(image, JpegFile):
            whole, size = Box(0, 0, image.width, image.height), self.image_size
            resized, left, top = centre_window(*whole[2:], size, self.shorter_side, self.keep_aspect)
            if min(left, top) < 0:
                raise NotDecoded
            return image.resized(whole, resized, Box(left, top, size, size))
        return centre_crop(image, self.image_size, self.shorter_side, self.keep_aspect)


def random_resized_crop(
    random: np.random.RandomState, width: int, height: int, scale: Tuple[float, float], ratio: Tuple[float, float]
) -> Box:
    """A box of random area and aspect ratio. After ten failed attempts: the largest central box in that range."""
    area = width * height
    for _ in range(10):
        target = area * random.uniform(*scale)
        aspect = math.exp(random.uniform(math.log(ratio[0]), math.log(ratio[1])))
        across, down = round(math.sqrt(target * aspect)), round(math.sqrt(target / aspect))
        if 0 < across <= width and 0 < down <= height:
            top = int(random.randint(0, height - down + 1))
            left = int(random.randint(0, width - across + 1))
            return Box(left, top, across, down)
    across = min(width, max(1, round(height * ratio[1])))
    down = min(height, max(1, round(width / ratio[0])))
    return Box((width - across) // 2, (height - down) // 2, across, down)


def cut_out(image: Decodable, box: Box, size: int) -> Image.Image:
    """The box, resized to size x size with antialiasing, without an intermediate image.

    Images are decoded at full size. Decoding a JPEG at half size needs a box of at least twice `size`, which one in
    forty images of ImageNet has at 224 pixels: it changes the pixels and saves no measurable time.
    """
    if isinstance(image, JpegFile):
        return Image.fromarray(image.resized(box, (size, size)))
    corners = (box.left, box.top, box.left + box.width, box.top + box.height)
    return image.resize((size, size), Image.Resampling.BILINEAR, box=corners)


def torchvision_transforms(option: str) -> Any:
    """torchvision.transforms.v2. Raises UsageError, naming `option`, where torchvision does not load."""
    try:
        from torchvision.transforms import v2
    except Exception as error:  # a wheel that does not fit torch fails with RuntimeError, not with ImportError
        reason = " ".join(str(error).split())[:100]
        raise UsageError(
            f"{option} needs torchvision, which does not load here ({reason}); install the one that belongs to torch"
            f" {torch.__version__}, from where torch came, or leave {option} out"
        ) from error
    return v2
