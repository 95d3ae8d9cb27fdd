"""The numbers of an epoch's augmentation, drawn by `shared.rng`: the same in every framework."""

from __future__ import annotations

from typing import Dict

import numpy as np

from shared import rng
from shared.recipes.cifar10 import CifarRecipe
from tf_seresnet.network import STAGES, blocks_per_stage


def drawn(recipe: CifarRecipe, epoch: int, count: int, side: int) -> Dict[str, np.ndarray]:
    """By name, what the recipe draws in this epoch of `count` images, one entry for every position in its order.

    `top` and `left` int32 [count] and `flip` bool [count] of the crops; and of what follows those that the recipe uses:
    `cutout` and `box` int32 [count, 4], `pixels` and `share` float32 [count], `branch_factors` float32 [count, blocks].
    """
    numbers = dict(rng.epoch_crops(recipe.seed, epoch, count, recipe.crop_padding, recipe.flip)._asdict())
    if recipe.cutout:
        numbers["cutout"] = rng.epoch_cutouts(recipe.seed, epoch, count, recipe.cutout, side)
    if recipe.mixup or recipe.cutmix:
        mixes = rng.epoch_mixes(recipe.seed, epoch, count, side, recipe.mixup, recipe.cutmix, recipe.mixed)
        numbers.update({"pixels": mixes.pixels, "box": mixes.box, "share": mixes.label})
    if recipe.drop_path:
        blocks = STAGES * blocks_per_stage(recipe.depth, recipe.variant)
        numbers["branch_factors"] = rng.epoch_depths(recipe.seed, epoch, count, blocks, recipe.drop_path)
    return numbers
