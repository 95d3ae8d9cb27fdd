"""SENet154 and SE-ResNet-50 of "Squeeze-and-Excitation Networks" (Hu et al., arXiv 1709.01507), as in the Caffe code.

The names of the weights and the arithmetic are those of Cadene's pretrained-models.pytorch. Output sizes at 224 x 224:

    stage    senet154                                              se_resnet50_caffe                       output
    layer0   3x3/2 64, 3x3 64, 3x3 128; max pool 3/2               7x7/2 64; max pool 3/2                  56 x 56
    layer1   3 x (1x1 128, 3x3 256 in 64 groups, 1x1 256, gate)    3 x (1x1 64, 3x3 64, 1x1 256, gate)     56 x 56
    layer2   8 x, twice as wide                                    4 x, twice as wide                      28 x 28
    layer3   36 x, twice as wide                                   6 x, twice as wide                      14 x 14
    layer4   3 x, twice as wide                                    3 x, twice as wide                       7 x  7
    head     global mean, dropout 0.2, linear                      global mean, linear                     classes
    stride   in the 3x3; shortcut 3x3                              in the first 1x1; shortcut 1x1

The head averages over the whole map at any image size; at 224 x 224 that is the 7 x 7 window of the originals.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Iterator, List, Optional, Sequence

import torch
from torch import nn

from torch_imagenet.networks.bottleneck import EXPANSION, Bottleneck, StagedNetwork, feature_info, stages
from torch_imagenet.networks.fused_norm import norm_relu


def senet_bottleneck(channels: int, planes: int, stride: int, drop_path: float) -> Bottleneck:
    """SENet154's bottleneck: a 3x3 convolution of twice the width in 64 groups, with the stride; 3x3 shortcuts."""
    widths = (2 * planes, EXPANSION * planes, EXPANSION * planes)
    shortcut_kernel = 1 if stride == 1 else 3
    return Bottleneck(channels, widths, (1, stride), drop_path, groups=64, shortcut_kernel=shortcut_kernel)


def caffe_bottleneck(channels: int, planes: int, stride: int, drop_path: float) -> Bottleneck:
    """SE-ResNet-50's bottleneck as in Caffe: the stride is in the first 1x1 convolution."""
    return Bottleneck(channels, (planes, planes, EXPANSION * planes), (stride, 1), drop_path)


class Stem(nn.Sequential):
    """The layers of layer0, the last of which is the pooling."""

    def forward(self, images: torch.Tensor, unpooled: Optional[List[torch.Tensor]] = None) -> torch.Tensor:
        """See `StagedNetwork.stem`."""
        x, (*layers, pool) = images, list(self)
        for convolution, norm, relu in zip(layers[::3], layers[1::3], layers[2::3]):
            x = norm_relu(convolution(x), norm, relu)
        if unpooled is not None:
            unpooled.append(x)
        pooled: torch.Tensor = pool(x)
        return pooled


class SENet(StagedNetwork):
    """The stem, the four stages that `stages` builds, and the head; see the module."""

    def __init__(
        self, stem: Stem, layers: Iterator[nn.Sequential], num_classes: int, dropout: float, channels: int
    ) -> None:
        super().__init__()
        self.layer0 = stem
        self.layer1, self.layer2, self.layer3, self.layer4 = layers
        self.dropout = nn.Dropout(dropout)
        self.last_linear = nn.Linear(self.num_features, num_classes)
        unpooled = [name for name, _ in stem.named_children()][-2]
        self.feature_info = feature_info(f"layer0.{unpooled}", channels)

    def stem(self, images: torch.Tensor, unpooled: Optional[List[torch.Tensor]]) -> torch.Tensor:
        """See `StagedNetwork.stem`."""
        return self.layer0(images, unpooled)


def senet154(num_classes: int, dropout: float, drop_path: float) -> SENet:
    """115,088,984 parameters at 1000 classes, 20.7 GMAC."""
    stem = _stem((3, 64, 64, 128), kernel=3)
    return SENet(stem, stages(senet_bottleneck, (3, 8, 36, 3), 128, drop_path), num_classes, dropout, 128)


def se_resnet50_caffe(num_classes: int, dropout: float, drop_path: float) -> SENet:
    """28,088,024 parameters at 1000 classes, 3.9 GMAC."""
    stem = _stem((3, 64), kernel=7)
    return SENet(stem, stages(caffe_bottleneck, (3, 4, 6, 3), 64, drop_path), num_classes, dropout, 64)


def _stem(widths: Sequence[int], kernel: int) -> Stem:
    """Convolutions from each width to the next, the first with stride 2; then max pooling, rounding up as in Caffe."""
    layers: "OrderedDict[str, nn.Module]" = OrderedDict()
    for number, (channels, width) in enumerate(zip(widths, widths[1:]), start=1):
        stride = 2 if number == 1 else 1
        layers[f"conv{number}"] = nn.Conv2d(channels, width, kernel, stride, padding=kernel // 2, bias=False)
        layers[f"bn{number}"] = nn.BatchNorm2d(width)
        layers[f"relu{number}"] = nn.ReLU(inplace=True)
    layers["pool"] = nn.MaxPool2d(3, stride=2, ceil_mode=True)
    return Stem(layers)
