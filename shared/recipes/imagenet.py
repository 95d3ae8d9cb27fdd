"""The documented rows of the ImageNet half, SENet154, SE-ResNet-50 and PNASNet-5-Large, and two recipes of ours.

What the originals' programs did instead of what their documents say is in `shared.recipes.as_run`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Callable, ClassVar, Dict, Optional, Tuple

from shared.recipes.base import Recipe
from shared.schedules import Schedule

SMOOTHING = ("uniform", "others")
NORMALISATIONS = ("own", "imagenet", "inception", "none")
LARGEST_MAGNITUDE = 30  # of RandAugment: torchvision's has 31 steps, from 0


@dataclass(frozen=True)
class ImageNetRecipe(Recipe):
    """A recipe of the ImageNet half."""

    regularisation = (*Recipe.regularisation, "randaugment", "trivialaugment", "erasing", "clip_norm", "accumulate")

    nesterov: bool = False
    precision: str = "O2"
    devices: int = 1  # the document's number of devices; a batch size is per device
    image_size: int = 224  # pixels per side
    crop_scale: Tuple[float, float] = (0.08, 1.0)  # share of the image's area that a training crop covers
    flip: bool = True
    normalisation: str = "own"  # the network's own, another one by name, or none: inputs from 0 to 1
    randaugment: Tuple[int, ...] = ()  # number of operations and their magnitude; () is none
    smoothing: str = "uniform"  # over all classes (uniform) or all but the label (others)
    auxiliary_weight: float = 0.0  # of the auxiliary head's loss; 0: no such head
    zero_pad: bool = True  # PNASNet: upstream's padding; False is the document's network
    dropout: Optional[float] = None  # before the head; None is the network's own
    trivialaugment: bool = False
    erasing: float = 0.0  # probability that a rectangle of an image is set to the mean colour
    clip_norm: Optional[float] = None  # of all gradients together
    accumulate: int = 1  # batches per step
    freeze_body: bool = False  # train the head alone

    needed: ClassVar[Dict[str, Tuple[str, ...]]] = {"smoothing": ("label_smoothing",)}

    def limits(self) -> Dict[str, Tuple[bool, str]]:
        """By field, whether its value is valid, and which values are."""
        low, high = self.crop_scale
        operations, magnitude = self.randaugment if len(self.randaugment) == 2 else (0, 0)
        randaugment = operations >= 1 and 0 <= magnitude <= LARGEST_MAGNITUDE
        return {
            **super().limits(),
            "image_size": (self.image_size >= 32, "at least 32 pixels"),
            "crop_scale": (0 < low <= high <= 1, "shares above 0 and up to 1, the smaller first"),
            "randaugment": (
                not self.randaugment or randaugment,
                f"at least one operation and a magnitude of 0 to {LARGEST_MAGNITUDE}, as in 2,9",
            ),
            "trivialaugment": (not (self.trivialaugment and self.randaugment), "it or --randaugment, not both"),
            "erasing": (0 <= self.erasing <= 1, "a probability of 0 (off) to 1"),
            "normalisation": (self.normalisation in NORMALISATIONS, f"one of {', '.join(NORMALISATIONS)}"),
            "smoothing": (self.smoothing in SMOOTHING, f"one of {', '.join(SMOOTHING)}"),
            "auxiliary_weight": (self.auxiliary_weight >= 0, "0 or more"),
            "dropout": (0 <= (self.dropout or 0) < 1, "0 or more and less than 1"),
            "clip_norm": (self.clip_norm is None or self.clip_norm > 0, "a norm above 0"),
            "accumulate": (self.accumulate >= 1, "at least 1"),
        }


def senet154_step() -> ImageNetRecipe:
    """SENet154, rate 0.6 x 0.1^floor(E/30), 8 devices.

    Command:    python torch_imagenet/main.py --recipe senet154_step --data-path DIR
    Hours:      not documented
    Documented: 79.130 / 94.058 % at 955 images/s (8 GPU), 78.599 / 93.849 % at 1,525 images/s (8 NPU)

    The original's command line cannot express it: period and factor are swapped and the factor is an integer.
    """
    return senet154_cosine().override(name="senet154_step", schedule=Schedule("step", 0.6, 120, period=30, factor=0.1))


def senet154_step45() -> ImageNetRecipe:
    """SENet154, rate 1 x 0.45^floor(E/10), 8 devices.

    Command:    python torch_imagenet/main.py --recipe senet154_step45 --data-path DIR
    Hours:      not documented
    Documented: 78.341 / 93.945 % at 955 images/s (8 GPU)
    """
    schedule = Schedule("step", 1.0, 120, period=10, factor=0.45)
    return senet154_cosine().override(name="senet154_step45", schedule=schedule)


def senet154_exponential() -> ImageNetRecipe:
    """SENet154, rate 0.6 x 0.93^E, 8 devices.

    Command:    python torch_imagenet/main.py --recipe senet154_exponential --data-path DIR
    Hours:      not documented
    Documented: 78.100 / 94.010 % at 949 images/s (8 GPU)
    """
    schedule = Schedule("exponential", 0.6, 120, factor=0.93)
    return senet154_cosine().override(name="senet154_exponential", schedule=schedule)


def senet154_cosine() -> ImageNetRecipe:
    """SENet154, rate 0.3 x (1 + cos(E pi / 120)), 8 devices: what the original's 8-device scripts run.

    Command:    python torch_imagenet/main.py --recipe senet154_cosine --data-path DIR
    Hours:      not documented
    Documented: 80.161 / 94.879 % at 951 images/s (8 GPU), 80.048 / 94.799 % at 1,522 images/s (8 NPU)
    """
    # Scale 128 is the documented default; the original's code ignores its flag and uses a dynamic scale.
    schedule = Schedule("cosine", 0.6, 120)
    recipe = ImageNetRecipe("senet154_cosine", "senet154", 120, 128, schedule, devices=8, loss_scale="128")
    return recipe.override(label_smoothing=0.1, smoothing="others")


def senet154_1p() -> ImageNetRecipe:
    """SENet154 on one device: the cosine recipe with the rate of the original's single-device scripts.

    Command:    python torch_imagenet/main.py --network senet154 --data-path DIR
    Hours:      not documented
    Documented: no result; the script train_full_1p.sh trains one epoch of it (--epochs 1)
    """
    return senet154_cosine().override(name="senet154_1p", learning_rate=0.075, devices=1)


def se_resnet50_8p() -> ImageNetRecipe:
    """SE-ResNet-50 (port), 8 devices.

    Command:    python torch_imagenet/main.py --recipe se_resnet50_8p --data-path DIR
    Hours:      not documented
    Documented: 77.521 % at 5,307 images/s (8 NPU)
    """
    schedule = Schedule("cosine", 0.6, 100, warm_up_epochs=5)
    return ImageNetRecipe("se_resnet50_8p", "se_resnet50", 100, 128, schedule, devices=8, seed=49, loss_scale="1024")


def se_resnet50_1p() -> ImageNetRecipe:
    """SE-ResNet-50 (port) on one device: one epoch, as documented; add --epochs 100 for a full training.

    Command:    python torch_imagenet/main.py --network se_resnet50 --data-path DIR
    Hours:      not documented (1.28 million images at the documented rate would be 0.5)
    Documented: 747 images/s (1 NPU), no accuracy
    """
    return se_resnet50_8p().override(name="se_resnet50_1p", learning_rate=0.1, epochs=1, devices=1)


def pnasnet5large_8p() -> ImageNetRecipe:
    """PNASNet-5-Large, 8 devices.

    Command:    python torch_imagenet/main.py --recipe pnasnet5large_8p --data-path DIR
    Hours:      not documented
    Documented: 78.842 % (torch 1.5), 79.625 % (torch 1.8), both at 353 images/s (8 NPU)

    In the document: no zero padding, rate 0.4 on an NPU and 0.32 on a GPU (which every other device has here too).
    It is silent about normalisation, which is Cadene's here, and about label smoothing and drop-path, which are what
    the program asks for; there these three have no effect: pnasnet5large_8p_as_run.
    """
    schedule = Schedule("cosine", 0.4, 90)
    recipe = ImageNetRecipe("pnasnet5large_8p", "pnasnet5large", 90, 32, schedule, devices=8, image_size=331)
    recipe = recipe.override(weight_decay=4e-5, loss_scale="dynamic", zero_pad=False)
    return recipe.override(label_smoothing=0.1, auxiliary_weight=0.4, drop_path=0.4)


def pnasnet5large_1p() -> ImageNetRecipe:
    """PNASNet-5-Large on one device: 1,000 steps, as documented; pnasnet5large_8p is the full training.

    Command:    python torch_imagenet/main.py --network pnasnet5large --data-path DIR
    Hours:      not documented (1,000 steps at the documented rates would take 8 to 12 minutes)
    Documented: 45 images/s (torch 1.5), 69 images/s (torch 1.8), both 1 NPU, no accuracy
    """
    return pnasnet5large_8p().override(name="pnasnet5large_1p", epochs=1, steps_per_epoch=1000, devices=1)


_EPOCH_90_OF_91 = 0.5 * (1 + math.cos(math.pi * 90 / 91))  # the cosine's share of the first rate


def pnasnet5large_finetune() -> ImageNetRecipe:
    """1,000 more steps at the rate that the 90 epochs end with.

    Command:    python torch_imagenet/main.py finetune --recipe pnasnet5large_finetune --checkpoint PATH --data-path DIR
    Hours:      not documented
    Documented: no result

    The original continues its run as epoch 90 of 91 and keeps the head; here a head of the same classes is kept too.
    """
    schedule = Schedule("step", 0.4 * _EPOCH_90_OF_91, 1)
    return pnasnet5large_1p().override(name="pnasnet5large_finetune", schedule=schedule, loss_scale="32")


def imagenet_sample() -> ImageNetRecipe:
    """SE-ResNet-50 on the embedded sample of handwritten digits at 32 pixels: proof that everything works.

    Command:  python torch_imagenet/main.py          (without a data set)
    Hours:    about a minute and a half on two CPU cores
    Expected: top-1 above 95 % on the sample's 299 test images (nothing is documented: the sample is ours)
    """
    schedule = Schedule("cosine", 0.01, 5, warm_up_epochs=1)
    # No flips, because a mirrored digit is no digit or another one; no crops that leave half of a digit.
    recipe = ImageNetRecipe("imagenet_sample", "se_resnet50", 5, 32, schedule, precision="O0", image_size=32)
    return recipe.override(crop_scale=(0.6, 1.0), flip=False)


def imagenet_finetune() -> ImageNetRecipe:
    """Fine-tuning of any network from pretrained weights on another data set.

    Command:    python torch_imagenet/main.py finetune --network NAME --checkpoint PATH --data-path DIR
    Hours:      depends on the data set
    Expected:   depends on the data set (nothing is documented: the recipe is ours); a tenth of the usual rate
    """
    schedule = Schedule("cosine", 0.01, 10)
    return ImageNetRecipe(
        "imagenet_finetune", "se_resnet50", 10, 64, schedule, label_smoothing=0.1, loss_scale="dynamic"
    )


_SENET154 = (senet154_step, senet154_step45, senet154_exponential, senet154_cosine, senet154_1p)
_OTHERS = (se_resnet50_8p, se_resnet50_1p, pnasnet5large_8p, pnasnet5large_1p, pnasnet5large_finetune)
RECIPES: Dict[str, Callable[[], Recipe]] = {
    recipe.__name__: recipe for recipe in (*_SENET154, *_OTHERS, imagenet_sample, imagenet_finetune)
}
# A recipe is that of the device which the ports were made for, the NPU. What a document, or a program, has on a GPU
# instead, and so what every other device gets here:
_ELSEWHERE: Dict[str, Dict[str, Any]] = {
    "pnasnet5large_8p": {"learning_rate": 0.32},
    "pnasnet5large_1p": {"learning_rate": 0.32},
    "pnasnet5large_finetune": {"learning_rate": 0.32 * _EPOCH_90_OF_91},
    "senet154_step_as_run": {"smoothing": "uniform"},
    "senet154_cosine_as_run": {"smoothing": "uniform"},
}
DEFAULT_NETWORK = "se_resnet50"
DEFAULTS = {
    "senet154": "senet154_1p",
    "se_resnet50": "se_resnet50_1p",
    "se_resnet50_caffe": "se_resnet50_1p",
    "pnasnet5large": "pnasnet5large_1p",
}
GENERAL = ("imagenet_sample", "imagenet_finetune")  # for any network
SMALL = ("imagenet_sample",)  # those with their own image size instead of the network's


def elsewhere(recipe: ImageNetRecipe) -> ImageNetRecipe:
    """What this recipe, with its own values, is on another device than the NPU."""
    return recipe.override(**_ELSEWHERE.get(recipe.name, {}))


def rate_by_device(recipe: ImageNetRecipe) -> str:
    """For the log, behind the learning rate of a run: both rates where the recipe's depends on the device, else ""."""
    other = _ELSEWHERE.get(recipe.name, {}).get("learning_rate")
    if other is None:
        return ""
    return f" (documented: {other:g} on a GPU, {RECIPES[recipe.name]().schedule.base:g} on an NPU)"
