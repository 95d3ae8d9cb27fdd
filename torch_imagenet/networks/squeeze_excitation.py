"""Squeeze-and-excitation gates (Hu et al., arXiv 1709.01507), in the two forms that published weights use.

Both squeeze x [B, C, H, W] to channel means [B, C], excite them through C / 16 hidden units, and scale x by the result.
The scale is broadcast over H and W; the original port expands it to the size of x, which costs a whole feature map.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from torch_imagenet.networks.fused_gate import Excitation, unseen

REDUCTION = 16


class ConvGate(nn.Module):
    """Two 1x1 convolutions with bias: the form of Cadene and of the authors' Caffe code.

    With `products` they are computed as matrix products, unless a hook is to see a layer.
    """

    products = False

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // REDUCTION, 1)
        self.fc2 = nn.Conv2d(channels // REDUCTION, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = functional.adaptive_avg_pool2d(x, 1)
        if self.products and unseen(self):
            hidden = functional.relu(_product(mean.flatten(1), self.fc1))
            return x * torch.sigmoid(_product(hidden, self.fc2))[:, :, None, None]
        return x * torch.sigmoid(self.fc2(functional.relu(self.fc1(mean))))

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


def use_products(network: nn.Module) -> nn.Module:
    """Compute the network's gates by matrix products, for a compiler, which leaves convolutions as they are.

    Those of one pixel took 16 ms in a step of SE-ResNet-50 compiled for two cores, the products 7 of 226. Returns the
    network.
    """
    for layer in network.modules():
        if isinstance(layer, ConvGate):
            layer.products = True
    return network


def _product(x: torch.Tensor, layer: nn.Conv2d) -> torch.Tensor:
    return functional.linear(x, layer.weight.flatten(1), layer.bias)
