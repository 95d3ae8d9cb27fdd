"""What a run says of its network and its input before a framework is loaded: depth and layer set, normalisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Tuple

import numpy as np

from shared.cifar10.dataset import channel_statistics
from shared.errors import UsageError
from shared.text import nearest
from tf_seresnet.network import blocks_per_stage, se_resnet

GRAPHS = ("core", "slim")  # the layer sets of graphs
KERAS = "keras"  # that of the Keras model


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
        if self.layers not in (*GRAPHS, KERAS):
            raise UsageError(f"no layer set {self.layers!r}; {nearest(self.layers, (*GRAPHS, KERAS))}")
        if self.layers != KERAS:
            graph_layers(self.layers)()
        return self

    def build(
        self, images: Any, training: bool, reuse: bool = False, branch_factors: Any = None, products: bool = False
    ) -> Tuple[Any, Any]:
        """Logits [batch, num_classes] of normalised images [batch, 32, 32, 3], in the default graph, and its layers.

        `reuse` shares the variables of a network that has been built. `branch_factors`, float32 [batch, blocks],
        multiply the residual branches. `products`: 1x1 convolutions of the layer set `core` as in `ProductLayers`.
        """
        layers = graph_layers("products" if products and self.layers == "core" else self.layers)(reuse=reuse)
        layers.branch_factors = branch_factors
        return se_resnet(images, layers, self.depth, self.variant, self.num_classes, training), layers


def graph_layers(name: str) -> Any:
    """The class of a graph's layer set, or of `core` with 1x1 convolutions as "products"."""
    from tf_seresnet.layers.core import CoreLayers
    from tf_seresnet.layers.products import ProductLayers
    from tf_seresnet.layers.slim import SlimLayers

    return {"core": CoreLayers, "slim": SlimLayers, "products": ProductLayers}[name]


@dataclass(frozen=True)
class Normalisation:
    """Per-channel statistics of the training set, in pixel values 0..255. The test set is normalised with them too."""

    mean: Tuple[float, ...]
    std: Tuple[float, ...]

    @classmethod
    def from_images(cls, images: np.ndarray) -> Normalisation:
        """The statistics of a training set, uint8 [N, height, width, 3]."""
        mean, std = channel_statistics(images)
        return cls(tuple(mean.tolist()), tuple(std.tolist()))

    def __call__(self, images: Any) -> Any:
        """Float32 images of zero mean and unit variance from uint8 [batch, height, width, 3], in a graph."""
        import tensorflow as tf

        return (tf.cast(images, tf.float32) - tf.constant(self.mean, tf.float32)) / tf.constant(self.std, tf.float32)


def steps_per_epoch(images: int, step_images: int, devices: int, static_shapes: bool) -> int:
    """Steps in an epoch; the last may be short unless `static_shapes`, but each device has an image."""
    steps, rest = divmod(images, step_images)
    return steps + (not static_shapes and rest >= devices)
