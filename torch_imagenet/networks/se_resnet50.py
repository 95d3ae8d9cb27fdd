"""The original port's SE-ResNet-50: torchvision's ResNet-50 with a bias-free SE gate in every block.

He et al., arXiv 1512.03385, table 1, and Hu et al., arXiv 1709.01507; the code follows moskomule's senet.pytorch. It
differs from `se_resnet50_caffe` in three ways: the stride is in the 3x3 convolution, not in the first 1x1; the gate has
no bias; the max pooling of the stem has padding 1. Output sizes at 224 x 224:

    conv1    7x7/2 64; max pool 3/2                           56 x 56
    layer1   3 x (1x1 64, 3x3 64, 1x1 256, gate)              56 x 56
    layer2   4 x (1x1 128, 3x3 128, 1x1 512, gate)            28 x 28
    layer3   6 x (1x1 256, 3x3 256, 1x1 1024, gate)           14 x 14
    layer4   3 x (1x1 512, 3x3 512, 1x1 2048, gate)            7 x  7
    head     global mean, linear                              classes
"""

from __future__ import annotations

from functools import partial
from typing import List, Optional

import torch
from torch import nn
from torch.nn import functional

from torch_imagenet.networks.bottleneck import EXPANSION, Bottleneck, StagedNetwork, feature_info, stages
from torch_imagenet.networks.fused_norm import norm_relu
from torch_imagenet.networks.squeeze_excitation import LinearGate


def linear_gate_bottleneck(channels: int, planes: int, stride: int, drop_path: float) -> Bottleneck:
    """The port's bottleneck: stride in the 3x3 convolution, linear gate."""
    widths = (planes, planes, EXPANSION * planes)
    return Bottleneck(channels, widths, (1, stride), drop_path, gate=LinearGate, gate_name="se")


class SEResNet50(StagedNetwork):
    """28,071,976 parameters at 1000 classes, 4.1 GMAC; see the module."""

    head = "fc"

    def __init__(self, num_classes: int, dropout: float, drop_path: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1, self.layer2, self.layer3, self.layer4 = stages(linear_gate_bottleneck, (3, 4, 6, 3), 64, drop_path)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(self.num_features, num_classes)
        self.feature_info = feature_info("bn1", 64)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # as in torchvision's ResNet
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def stem(self, images: torch.Tensor, unpooled: Optional[List[torch.Tensor]]) -> torch.Tensor:
        """See `StagedNetwork.stem`."""
        x = norm_relu(self.conv1(images), self.bn1, partial(functional.relu, inplace=True))
        if unpooled is not None:
            unpooled.append(x)
        return self.maxpool(x)
