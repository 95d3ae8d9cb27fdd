"""The documented rows of the ImageNet half as the originals' programs ran them, where their documents say otherwise.

With one of these the owner of an old checkpoint trains on as before. SE-ResNet-50's program did what its document says.
"""

from __future__ import annotations

from typing import Callable, Dict

from shared.recipes import imagenet
from shared.recipes.base import Recipe
from shared.recipes.imagenet import ImageNetRecipe

SUFFIX = "_as_run"


def senet154_cosine_as_run() -> ImageNetRecipe:
    """SENet154 with the cosine, as its program ran it.

    Command:    python torch_imagenet/main.py --recipe senet154_cosine_as_run --data-path DIR
    Hours:      not documented
    Documented: 80.161 / 94.879 % (8 GPU), 80.048 / 94.799 % (8 NPU), the rows of senet154_cosine

    The loss scale is dynamic, whatever the option says. Smoothed labels: on an NPU over the wrong classes, on other
    devices over all (lsr.py).
    """
    return _as_run(imagenet.senet154_cosine(), loss_scale="dynamic")


def senet154_step_as_run() -> ImageNetRecipe:
    """SENet154 with steps, as its program would have run it with a period of 30 and a factor of 0.1.

    Command:    python torch_imagenet/main.py --recipe senet154_step_as_run --data-path DIR
    Hours:      not documented
    Documented: 79.130 / 94.058 % (8 GPU), 78.599 / 93.849 % (8 NPU), the rows of senet154_step
    """
    return _as_run(imagenet.senet154_step(), loss_scale="dynamic")


def pnasnet5large_8p_as_run() -> ImageNetRecipe:
    """PNASNet-5-Large on 8 devices, as its program ran it.

    Command:    python torch_imagenet/main.py --recipe pnasnet5large_8p_as_run --data-path DIR
    Hours:      not documented
    Documented: 78.842 % (torch 1.5), 79.625 % (torch 1.8), both at 353 images/s (8 NPU), the rows of pnasnet5large_8p

    Inputs are not normalised. Label smoothing and drop-path are off, because the program builds the loss with a factor
    of 0 and calls drop_path without training=True. The rate is 0.4 on every device.
    """
    return _as_run(imagenet.pnasnet5large_8p(), **_PNASNET)


def pnasnet5large_1p_as_run() -> ImageNetRecipe:
    """PNASNet-5-Large on one device, 1,000 steps, as its program ran it: see pnasnet5large_8p_as_run.

    Command:    python torch_imagenet/main.py --recipe pnasnet5large_1p_as_run --data-path DIR
    Hours:      not documented (1,000 steps at the documented rates would take 8 to 12 minutes)
    Documented: 45 images/s (torch 1.5), 69 images/s (torch 1.8), both 1 NPU, no accuracy
    """
    return _as_run(imagenet.pnasnet5large_1p(), **_PNASNET)


def pnasnet5large_finetune_as_run() -> ImageNetRecipe:
    """1,000 more steps of pnasnet5large_8p_as_run.

    Command:    python torch_imagenet/main.py finetune --checkpoint model_best.pth.tar --data-path DIR
    Hours:      not documented
    Documented: no result
    """
    return _as_run(imagenet.pnasnet5large_finetune(), **_PNASNET)


_PNASNET = {"normalisation": "none", "label_smoothing": 0.0, "drop_path": 0.0}


def _as_run(documented: ImageNetRecipe, **changes: object) -> ImageNetRecipe:
    return documented.override(name=documented.name + SUFFIX, **changes)


RECIPES: Dict[str, Callable[[], Recipe]] = {
    recipe.__name__: recipe
    for recipe in (
        senet154_cosine_as_run,
        senet154_step_as_run,
        pnasnet5large_8p_as_run,
        pnasnet5large_1p_as_run,
        pnasnet5large_finetune_as_run,
    )
}
