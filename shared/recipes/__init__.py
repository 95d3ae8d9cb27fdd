"""The documented rows as frozen, typed recipes. `--recipe NAME` selects one; options override its fields.

Each recipe is a function whose docstring states the command, the hours and the documented result. Where an original's
program does not do what its document says, the recipe follows the document, and one with the suffix `_as_run` the
program. One with the suffix `_modern` trains the network as it would be trained today.
"""

from __future__ import annotations

from typing import Callable, Dict, List, Mapping, Optional, Tuple

from shared.errors import UsageError
from shared.recipes import as_run, cifar10, imagenet, modern
from shared.recipes.base import Recipe
from shared.recipes.imagenet import ImageNetRecipe
from shared.text import nearest

_BY_HALF: Dict[str, Mapping[str, Callable[[], Recipe]]] = {
    "tf_seresnet": cifar10.RECIPES,
    "torch_imagenet": {**imagenet.RECIPES, **as_run.RECIPES, **modern.RECIPES},
}
_ALL: Dict[str, Callable[[], Recipe]] = {name: make for half in _BY_HALF.values() for name, make in half.items()}


# What a record states of every run, or what does not change the recipe.
_STATED = (
    "name network epochs batch_size schedule precision loss_scale seed steps_per_epoch devices image_size "
    "normalisation zero_pad depth variant"
).split()


def names(half: Optional[str] = None) -> Tuple[str, ...]:
    """The names of all recipes, or of those of one half, "tf_seresnet" or "torch_imagenet"."""
    return tuple(_ALL if half is None else _BY_HALF[half])


def get(name: str) -> Recipe:
    """The recipe of this name. Raises UsageError, with the nearest name, if there is none."""
    if name not in _ALL:
        raise UsageError(f"unknown recipe {name!r}; {nearest(name, _ALL)}")
    return _ALL[name]().checked()


def changes(recipe: Recipe) -> List[str]:
    """What options changed in a recipe, as options without dashes; what a record states elsewhere is left out."""
    if recipe.name not in _ALL:  # of a checkpoint of another version
        return []
    named = get(recipe.name)
    fields = [field for field in recipe.to_json() if field not in _STATED]
    found = [recipe.differences(named, fields)]
    if isinstance(named, ImageNetRecipe):
        found.append(recipe.differences(imagenet.elsewhere(named), fields))
    return min(found, key=len)


def expected() -> Dict[str, Tuple[float, float]]:
    """By recipe, the least and the most top-1 in percent that is expected of it, where nothing is documented."""
    return {**cifar10.EXPECTED, **modern.EXPECTED}


def document(name: str) -> str:
    """The docstring of the recipe: command, hours and documented result."""
    return (_ALL[name].__doc__ or "").strip()
