"""How long the rest of a run will take, and what to ask for instead when that is days."""

from __future__ import annotations

from typing import List

from shared.recipes.cifar10 import CifarRecipe
from shared.text import duration

AFTER_STEPS = 12  # early enough to be told soon, late enough that the first, compiling steps are left out
LONG = 6 * 3600.0  # seconds
SMALLER = {"port": ((11, 3), (20, 20)), "paper": ((8, 3), (20, 20))}  # depths that exist, and epochs


def advice(step_seconds: float, steps_left: int, recipe: CifarRecipe, steps_per_epoch: int) -> List[str]:
    """Lines for the user: empty when the rest takes less than `LONG` seconds at `step_seconds` a step."""
    seconds = step_seconds * steps_left
    if seconds < LONG:
        return []
    smaller = []
    for depth, epochs in SMALLER[recipe.variant]:
        # The cost of a step is nearly proportional to the number of blocks.
        share = (depth - 2) / (recipe.depth - 2)
        smaller.append((f"--depth {depth} --epochs {epochs}", step_seconds * share * steps_per_epoch * epochs))
    return [
        f"note: at {1000 * step_seconds:.0f} ms a step the rest of recipe {recipe.name} takes {duration(seconds)} here",
        "      smaller: " + "; ".join(f"{options} (about {duration(guess)})" for options, guess in smaller),
        "      add --scheduler cosine --learning-rate 0.1 --warm-up-epochs 1 to these; --max-steps N stops anywhere;",
        "      Ctrl-C saves a checkpoint that --resume continues from",
    ]
