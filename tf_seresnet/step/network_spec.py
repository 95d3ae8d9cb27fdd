"""Which network of this half: what a checkpoint must state so that evaluation builds the same one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Tuple, Type

from shared.errors import UsageError
from shared.text import nearest
from tf_seresnet.layers.core import CoreLayers
from tf_seresnet.layers.slim import SlimLayers
from tf_seresnet.network import blocks_per_stage, se_resnet

LAYER_SETS: Dict[str, Type[CoreLayers]] = {"core": CoreLayers, "slim": SlimLayers}


@dataclass(frozen=True)
class NetworkSpec:
    """A depth and variant of `se_resnet`, the layer set that builds it, and its number of classes."""

    depth: int
    variant: str
    layers: str
    num_classes: int

    def checked(self) -> NetworkSpec:
        """Itself; raises UsageError for a depth, variant or layer set that does not exist or does not run here."""
        blocks_per_stage(self.depth, self.variant)
        if self.layers not in LAYER_SETS:
            raise UsageError(f"no layer set {self.layers!r} for a graph; {nearest(self.layers, LAYER_SETS)}")
        LAYER_SETS[self.layers]()
        return self

    def build(self, images: Any, training: bool, reuse: bool = False) -> Tuple[Any, CoreLayers]:
        """Logits [batch, num_classes] of normalised images [batch, 32, 32, 3], in the default graph, and its layers.

        `reuse` shares the variables of a network that has been built.
        """
        layers = LAYER_SETS[self.layers](reuse=reuse)
        return se_resnet(images, layers, self.depth, self.variant, self.num_classes, training), layers
