"""Grouped convolutions in three forms that compute the same from the same weights.

A convolution in G groups (Krizhevsky et al., NIPS 2012; Xie et al., arXiv 1611.05431) sees C / G input channels in each
group. Some devices have no kernel for it, or a slow one: SENet154's document warns of it on an NPU.

    native   one grouped convolution
    dense    one convolution without groups; its kernel is block-diagonal, G times as large, most of it zeros
    split    G convolutions, one for each group
"""

from __future__ import annotations

from functools import partial

import torch
from torch import nn
from torch.nn import functional


class GroupedConv2d(nn.Conv2d):
    """A grouped convolution without bias, in the `form` native, dense or split; its weights are those of nn.Conv2d."""

    form = "native"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [B, C, H, W] to [B, C', H', W']."""
        convolve = partial(functional.conv2d, stride=self.stride, padding=self.padding, dilation=self.dilation)
        if self.form == "dense":
            return convolve(x, self.dense_weight())
        if self.form == "split":
            parts = zip(x.chunk(self.groups, dim=1), self.weight.chunk(self.groups))
            return torch.cat([convolve(part, weight) for part, weight in parts], dim=1)
        return convolve(x, self.weight, groups=self.groups)

    def dense_weight(self) -> torch.Tensor:
        """The weight [C', C, k, k] of the same convolution without groups, zero outside of the groups' blocks."""
        out, width = self.out_channels // self.groups, self.in_channels // self.groups
        blocks = self.weight.unflatten(0, (self.groups, out)).unsqueeze(2)  # [G, C' / G, 1, C / G, k, k]
        diagonal = torch.eye(self.groups, dtype=self.weight.dtype, device=self.weight.device)
        dense = blocks * diagonal.view(self.groups, 1, self.groups, 1, 1, 1)
        return dense.reshape(self.out_channels, self.groups * width, *self.kernel_size)


def set_form(network: nn.Module, form: str) -> nn.Module:
    """Compute the network's grouped convolutions in this form; returns the network."""
    for layer in network.modules():
        if isinstance(layer, GroupedConv2d):
            layer.form = form
    return network
