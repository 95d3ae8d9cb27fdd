"""SE-ResNet for 32 x 32 images, written once over a small set of layers.

`layers` is any implementation of `Layers` below: `layers.core` builds a TensorFlow 1.x graph from primitives,
`layers.slim` builds it from the documented tf-slim and tflearn, `keras.layers` builds a Keras model. The network
creates its layers in one fixed order and the layer sets number them in that order (`conv2d`, `conv2d_1`, ...), so that
all three have the variable names of the original's checkpoints.

Sources: He et al., "Identity Mappings in Deep Residual Networks" (arXiv 1603.05027) for the pre-activation bottleneck
of `port`; He et al., "Deep Residual Learning" (arXiv 1512.03385), section 4.2, for the basic blocks of `paper`; Hu et
al., "Squeeze-and-Excitation Networks" (arXiv 1709.01507) for the gate.
"""

from __future__ import annotations

import abc
import collections
from typing import Any, Dict, List, Optional

from shared.errors import UsageError

REDUCTION = 16  # hidden units of a gate: channels / 16, the ratio of the SE paper and of the original
STAGES = 3
STEM_FILTERS = 16
BATCH_NORM_DECAY = 0.9
BATCH_NORM_EPSILON = 1e-3

Tensor = Any  # a tf.Tensor or a keras.KerasTensor: this file imports neither


class Layers(abc.ABC):
    """The layers of a network. Images and feature maps are [batch, height, width, channels]."""

    features: Tensor = None  # the feature map whose averages the classifier of a built network gets
    branches = 0  # residual branches of a built network

    def __init__(self) -> None:
        self._counts: Dict[str, int] = collections.Counter()

    def next_name(self, kind: str) -> str:
        """The next layer's name, as TensorFlow 1.x gives it: "dense", then "dense_1", ..."""
        count = self._counts[kind]
        self._counts[kind] += 1
        return f"{kind}_{count}" if count else kind

    def branch(self, x: Tensor) -> Tensor:
        """The result of a residual branch, as it is added; a layer set may drop it (stochastic depth)."""
        self.branches += 1
        return x

    @abc.abstractmethod
    def conv(self, x: Tensor, filters: int, kernel: int, strides: int = 1, bias: bool = True) -> Tensor:
        """Square convolution, 'SAME' padding as TensorFlow defines it."""

    @abc.abstractmethod
    def batch_norm(self, x: Tensor, training: Optional[bool]) -> Tensor:
        """Batch normalisation: decay 0.9, epsilon 1e-3, with scale and shift, zero-debiased moving mean."""

    @abc.abstractmethod
    def dense(self, x: Tensor, units: int) -> Tensor:
        """Fully connected layer without bias: [batch, features] to [batch, units]."""

    @abc.abstractmethod
    def global_average_pool(self, x: Tensor) -> Tensor:
        """[batch, height, width, channels] to [batch, channels]."""

    @abc.abstractmethod
    def relu(self, x: Tensor) -> Tensor:
        """max(x, 0)."""

    @abc.abstractmethod
    def gate(self, x: Tensor, excitation: Tensor) -> Tensor:
        """x [batch, height, width, channels] times sigmoid(excitation [batch, channels]), channel by channel."""

    def gated_conv(self, x: Tensor, filters: int, kernel: int, strides: int = 1) -> Tensor:
        """`conv` with its bias, then the gate of its own output."""
        return _excite(self.conv(x, filters, kernel, strides), self, filters)

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        """Elementwise sum."""
        return x + y

    @abc.abstractmethod
    def shortcut(self, x: Tensor, filters: int, strides: int) -> Tensor:
        """Parameter-free shortcut (He et al. 2015, option A): every `strides`-th pixel, zeros for the new channels."""


def se_resnet(
    images: Tensor,
    layers: Layers,
    depth: int = 110,
    variant: str = "port",
    num_classes: int = 10,
    training: Optional[bool] = None,
) -> Tensor:
    """Logits [batch, num_classes] of normalised images [batch, 32, 32, 3], float32.

    `variant="port"` is the original's network: pre-activation bottlenecks of depth 9n+2 with a gate after every
    convolution (3,504,422 trainable parameters at depth 110). `variant="paper"` is the SE paper's: basic blocks of
    depth 6n+2 with one gate each (1.74 M). `training` selects the statistics of batch normalisation: the batch's
    (True) or the moving averages (False); None leaves it to the call of the Keras model.

    Raises UsageError for a variant or a depth that does not exist.
    """
    blocks = blocks_per_stage(depth, variant)
    body = _port if variant == "port" else _paper
    layers.features = body(images, layers, blocks, training)
    return layers.dense(layers.global_average_pool(layers.features), num_classes)


def blocks_per_stage(depth: int, variant: str) -> int:
    """n of depth 9n+2 (`port`) or 6n+2 (`paper`). Raises UsageError with the nearest depths that exist."""
    if variant not in LAYERS_PER_N:
        raise UsageError(f"unknown variant {variant!r}; choose one of {', '.join(LAYERS_PER_N)}")
    period = LAYERS_PER_N[variant]
    blocks, remainder = divmod(depth - 2, period)
    if remainder or blocks < 1:
        lower = max(blocks, 1) * period + 2
        raise UsageError(
            f"depth {depth} does not exist in variant {variant} (it is {period}n+2); use {lower} or {lower + period}"
        )
    return blocks


LAYERS_PER_N = {"port": 9, "paper": 6}


def ends_of_branches(depth: int, variant: str) -> List[str]:
    """The variables that end the residual branches: with zeros in them every block begins as its shortcut.

    In `port` it is a convolution's kernel, for its branches have no normalisation at their end; in `paper` the scale of
    the last normalisation. Raises UsageError as `se_resnet` does.
    """
    blocks = blocks_per_stage(depth, variant)
    if variant == "paper":  # one normalisation in the stem, two a block
        return [f"BatchNorm_{2 * block}/gamma" for block in range(1, STAGES * blocks + 1)]
    # One convolution in the stem, three a block, and one in the shortcut of a stage's first block.
    return [
        f"conv2d_{3 * (stage * blocks + block + 1) + stage + (block > 0)}/kernel"
        for stage in range(STAGES)
        for block in range(blocks)
    ]


def _port(x: Tensor, layers: Layers, blocks: int, training: Optional[bool]) -> Tensor:
    """Feature map [batch, 8, 8, 256]. As in the original, the stem is BN-ReLU-conv directly on the image."""
    width = STEM_FILTERS
    x = _unit(x, layers, training, width, kernel=3)
    for stage in range(STAGES):
        out = width * (4 if stage == 0 else 2)
        for block in range(blocks):
            first = block == 0
            strides = 2 if first and stage > 0 else 1
            # The very first unit follows the stem's gate; the original leaves out its batch normalisation.
            y = _unit(x, layers, training, width, kernel=1, strides=strides, batch_norm=stage > 0 or not first)
            y = _unit(y, layers, training, width, kernel=3)
            y = _unit(y, layers, training, out, kernel=1)
            if first:
                x = layers.gated_conv(x, out, 1, strides)
            x = layers.add(x, layers.branch(y))
        width = out
    return layers.relu(layers.batch_norm(x, training))


def _unit(
    x: Tensor,
    layers: Layers,
    training: Optional[bool],
    filters: int,
    kernel: int,
    strides: int = 1,
    batch_norm: bool = True,
) -> Tensor:
    """BN, ReLU, convolution, gate."""
    if batch_norm:
        x = layers.batch_norm(x, training)
    return layers.gated_conv(layers.relu(x), filters, kernel, strides)


def _paper(x: Tensor, layers: Layers, blocks: int, training: Optional[bool]) -> Tensor:
    """Feature map [batch, 8, 8, 64]: conv-BN-ReLU twice per block, the gate on the branch before the addition."""
    x = layers.relu(layers.batch_norm(layers.conv(x, STEM_FILTERS, 3, bias=False), training))
    for stage in range(STAGES):
        filters = STEM_FILTERS * 2**stage
        for block in range(blocks):
            strides = 2 if block == 0 and stage > 0 else 1
            y = layers.relu(layers.batch_norm(layers.conv(x, filters, 3, strides, bias=False), training))
            y = layers.batch_norm(layers.conv(y, filters, 3, bias=False), training)
            y = _excite(y, layers, filters)
            if strides > 1:
                x = layers.shortcut(x, filters, strides)
            x = layers.relu(layers.add(x, layers.branch(y)))
    return x


def _excite(x: Tensor, layers: Layers, channels: int) -> Tensor:
    """Squeeze every channel to its mean, excite it through two bias-free dense layers, gate the channels."""
    return layers.gate(x, excitation(layers.global_average_pool(x), layers, channels))


def excitation(squeezed: Tensor, layers: Layers, channels: int) -> Tensor:
    """What a gate takes the sigmoid of, from the means of its channels: both [batch, channels]."""
    return layers.dense(layers.relu(layers.dense(squeezed, channels // REDUCTION)), channels)
