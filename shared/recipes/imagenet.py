"""The documented rows of the ImageNet half."""

from __future__ import annotations

from typing import Callable, Dict

from shared.recipes.base import Recipe

RECIPES: Dict[str, Callable[[], Recipe]] = {}
