"""Which network of this half: what a checkpoint must state so that evaluation builds the same one."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Dict, Optional, Type

from shared.errors import UsageError
from shared.recipes.base import contradiction
from shared.recipes.cifar10 import CifarRecipe
from shared.text import nearest
from tf_seresnet.layers.core import CoreLayers
from tf_seresnet.layers.slim import SlimLayers
from tf_seresnet.network import blocks_per_stage, se_resnet
from tf_seresnet.options import RunConfig

LAYER_SETS: Dict[str, Type[CoreLayers]] = {"core": CoreLayers, "slim": SlimLayers}


@dataclass(frozen=True)
class NetworkSpec:
    """Which network: what a checkpoint must say so that evaluation builds the same one."""

    depth: int
    variant: str
    layers: str
    num_classes: int

    @classmethod
    def from_config(
        cls, config: RunConfig, recipe: CifarRecipe, state: Optional[Dict[str, Any]], classes: int
    ) -> NetworkSpec:
        """The network of the recipe, or that of the checkpoint with this `state` with another layer set.

        Raises UsageError where an option contradicts the checkpoint.
        """
        if state is None:
            return cls(recipe.depth, recipe.variant, config.layers or "core", classes).checked()
        stored = cls(**state["network"])
        for name in ("depth", "variant"):
            if getattr(config, name) not in (None, getattr(stored, name)):
                raise contradiction(name, getattr(config, name), f"{name} {getattr(stored, name)}")
        if stored.num_classes != classes:
            raise UsageError(
                f"the checkpoint has {stored.num_classes} classes and the data set {classes}; check --data-path"
            )
        return dataclasses.replace(stored, layers=config.layers or stored.layers).checked()

    def checked(self) -> NetworkSpec:
        """Itself; raises UsageError for a depth, variant or layer set that does not exist or does not run here."""
        blocks_per_stage(self.depth, self.variant)
        self.layer_set()
        return self

    def build(self, images: Any, layers: CoreLayers, training: bool) -> Any:
        """Logits [batch, num_classes] of normalised images [batch, 32, 32, 3], in the default graph."""
        return se_resnet(images, layers, self.depth, self.variant, self.num_classes, training)

    def layer_set(self, reuse: bool = False) -> CoreLayers:
        """The layers of one network to be built; `reuse` shares the variables of one that has been."""
        if self.layers not in LAYER_SETS:
            keras = "tf_seresnet.keras.model builds a Keras model"
            hint = keras if self.layers == "keras" else nearest(self.layers, LAYER_SETS)
            raise UsageError(f"no layer set {self.layers!r} for a graph; {hint}")
        return LAYER_SETS[self.layers](reuse=reuse)
