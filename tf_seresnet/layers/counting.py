"""A layer set that counts parameters and operations of `tf_seresnet.network` without any framework."""

from __future__ import annotations

from typing import Optional, Tuple

from shared.recipes.cifar10 import CifarRecipe
from shared.roofline import Accelerator, NetworkCost, element_bytes
from tf_seresnet.network import Layers, se_resnet

Shape = Tuple[int, ...]  # of one image's feature map (height, width, channels), or of its features (channels,)


class CountingLayers(Layers):
    """Represents feature maps by their shapes, without the batch dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.parameters = self.multiply_adds = self.activations = 0

    def conv(self, x: Shape, filters: int, kernel: int, strides: int = 1, bias: bool = True) -> Shape:
        height, width = (-(-side // strides) for side in x[:2])  # 'SAME'
        weights = kernel * kernel * x[2] * filters
        self._count(weights + (filters if bias else 0), weights * height * width, height * width * filters)
        return (height, width, filters)

    def dense(self, x: Shape, units: int) -> Shape:
        self._count(x[0] * units, x[0] * units, units)
        return (units,)

    def batch_norm(self, x: Shape, training: Optional[bool]) -> Shape:
        self.parameters += 2 * x[-1]
        return x

    def shortcut(self, x: Shape, filters: int, strides: int) -> Shape:
        return (-(-x[0] // strides), -(-x[1] // strides), filters)

    def global_average_pool(self, x: Shape) -> Shape:
        return x[-1:]

    def relu(self, x: Shape) -> Shape:
        return x

    def gate(self, x: Shape, excitation: Shape) -> Shape:
        assert x[-1:] == excitation
        return x

    def add(self, x: Shape, y: Shape) -> Shape:
        assert x == y
        return x

    def _count(self, parameters: int, multiply_adds: int, activations: int) -> None:
        self.parameters += parameters
        self.multiply_adds += multiply_adds
        self.activations += activations


def network_cost(depth: int, variant: str, num_classes: int = 10) -> NetworkCost:
    """Cost of an SE-ResNet on one 32 x 32 image, trainable parameters only. Raises UsageError as `se_resnet` does."""
    layers = CountingLayers()
    se_resnet((32, 32, 3), layers, depth, variant, num_classes)
    return NetworkCost(layers.parameters, layers.multiply_adds, layers.activations)


def roofline_seconds(accelerator: Optional[Accelerator], recipe: CifarRecipe, precision: str) -> Optional[float]:
    """The least time of a training step on one device; None where the limits of the device are not known."""
    if accelerator is None:
        return None
    cost = network_cost(recipe.depth, recipe.variant)
    return accelerator.roofline_seconds(cost, recipe.batch_size, element_bytes(precision))
