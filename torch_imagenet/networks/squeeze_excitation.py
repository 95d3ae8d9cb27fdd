"""Squeeze-and-excitation gates (Hu et al., arXiv 1709.01507), in the two forms that published weights use.

Both squeeze x [B, C, H, W] to channel means [B, C], excite them through C / 16 hidden units, and scale x by the result.
The scale is broadcast over H and W; the original port expands it to the size of x, which costs a whole feature map.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from torch_imagenet.networks.fused_gate import Excitation

REDUCTION = 16


class ConvGate(nn.Module):
    """Two 1x1 convolutions with bias: the form of Cadene and of the authors' Caffe code."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // REDUCTION, 1)
        self.fc2 = nn.Conv2d(channels // REDUCTION, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = functional.relu(self.fc1(functional.adaptive_avg_pool2d(x, 1)))
        return x * torch.sigmoid(self.fc2(hidden))

    def excitation(self) -> Excitation:
        """Its layers' weights, for the fused form."""
        return Excitation(self.fc1.weight, self.fc1.bias, self.fc2.weight, self.fc2.bias)


class LinearGate(nn.Module):
    """Two linear layers without bias: the form of the original port."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(channels, channels // REDUCTION, bias=False),
            nn.ReLU(inplace=True),
            nn.Linear(channels // REDUCTION, channels, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scale = self.fc(functional.adaptive_avg_pool2d(x, 1).flatten(1))
        return x * scale[:, :, None, None]

    def excitation(self) -> Excitation:
        """Its layers' weights, for the fused form."""
        reduce, expand = self.fc.parameters()
        return Excitation(reduce, None, expand, None)
