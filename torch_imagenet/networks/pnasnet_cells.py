"""The cells of PNASNet-5 (Liu et al., "Progressive Neural Architecture Search", arXiv 1712.00559, figure 1).

The weights' names are those of Cadene's pretrained-models.pytorch. All feature maps are [B, C, H, W]; a stride divides
H and W, rounding up.

Padding: the networks come from TensorFlow, whose "SAME" padding with stride 2 starts one pixel later than symmetric
padding where the side is even. Cadene's code pads and crops in the one cell where the side is even at 331 x 331. Here
the shift follows from the side, so every image size computes what TensorFlow does. The original port always pads
symmetrically (`zero_pad=False`).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Optional, Tuple

import torch
from torch import nn
from torch.nn import functional

from torch_imagenet.networks.drop_path import DropPath
from torch_imagenet.networks.fused_norm import norm_relu

EPSILON = 1e-3

Shift = Tuple[int, int]  # offset of the first window in pixels, down and right; each 0 or 1


def same_shift(x: torch.Tensor) -> Shift:
    """The offset of TensorFlow's "SAME" windows of stride 2 from those of symmetric padding."""
    return 1 - x.shape[2] % 2, 1 - x.shape[3] % 2


class ShiftedConv2d(nn.Conv2d):
    """A convolution whose windows can start one pixel later: with more padding, and without the first output."""

    def forward(self, x: torch.Tensor, shift: Shift = (0, 0)) -> torch.Tensor:
        """x [B, C, H, W], padded with zeros, to [B, C', H', W']."""
        down, right = shift
        padding = (int(self.padding[0]) + down, int(self.padding[1]) + right)
        y = functional.conv2d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)
        return y[:, :, down:, right:]


class MaxPool(nn.Module):
    """3x3 max pooling with padding 1; padding is never the maximum."""

    def __init__(self, stride: int, zero_pad: bool) -> None:
        super().__init__()
        self.stride = stride
        self.shifted = zero_pad and stride == 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        down, right = same_shift(x) if self.shifted else (0, 0)
        # Less padding on the left shifts the windows; ceil_mode replaces the padding on the right.
        return functional.max_pool2d(x, 3, self.stride, (1 - down, 1 - right), ceil_mode=self.shifted)


class SeparableConv2d(nn.Module):
    """A depthwise k x k convolution, then a pointwise (1x1) one."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.depthwise_conv2d = ShiftedConv2d(
            channels, channels, kernel, stride, padding=kernel // 2, groups=channels, bias=False
        )
        self.pointwise_conv2d = nn.Conv2d(channels, out, 1, bias=False)

    def forward(self, x: torch.Tensor, shift: Shift = (0, 0)) -> torch.Tensor:
        return self.pointwise_conv2d(self.depthwise_conv2d(x, shift))


class BranchSeparables(nn.Module):
    """ReLU, separable convolution and BN, twice (Zoph et al., arXiv 1707.07012, appendix A.4); then drop path."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, zero_pad: bool, drop_path: float) -> None:
        super().__init__()
        self.shifted = zero_pad and stride == 2
        self.separable_1 = SeparableConv2d(channels, out, kernel, stride)
        self.bn_sep_1 = nn.BatchNorm2d(out, eps=EPSILON)
        self.separable_2 = SeparableConv2d(out, out, kernel, 1)
        self.bn_sep_2 = nn.BatchNorm2d(out, eps=EPSILON)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shift = same_shift(x) if self.shifted else (0, 0)
        x = norm_relu(self.separable_1(functional.relu(x), shift), self.bn_sep_1, functional.relu)
        return self.drop_path(norm_relu(self.separable_2(x), self.bn_sep_2))


class ReluConvBn(nn.Module):
    """ReLU, 1x1 convolution, BN. Stride 2 takes every second pixel, as "SAME" padding does at any size."""

    def __init__(self, channels: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, 1, stride, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=EPSILON)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return norm_relu(self.conv(functional.relu(x)), self.bn)


class FactorizedReduction(nn.Module):
    """Halves height and width: half of the output channels see the even pixels, the other half the odd ones.

    In the original port both halves see the even pixels. The originals pool windows of one pixel and then convolve; a
    1x1 convolution with stride 2 computes the same.
    """

    def __init__(self, channels: int, out: int, zero_pad: bool) -> None:
        super().__init__()
        self.shift = (1, 1) if zero_pad else (0, 0)
        self.path_1 = nn.ModuleDict({"conv": nn.Conv2d(channels, out // 2, 1, stride=2, bias=False)})
        self.path_2 = nn.ModuleDict({"conv": ShiftedConv2d(channels, out // 2, 1, stride=2, bias=False)})
        self.final_path_bn = nn.BatchNorm2d(out, eps=EPSILON)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(x)
        halves = [self.path_1["conv"](x), self.path_2["conv"](x, self.shift)]
        return self.final_path_bn(torch.cat(halves, 1))


class CellBase(nn.Module):
    """Five pairs of operations on two inputs. The outputs of each pair are added, the five sums concatenated."""

    def add_pairs(self, left: int, right: int, out: int, stride: int, zero_pad: bool, drop_path: float) -> None:
        """Add the operations; the inputs have `left` and `right` channels, each output has `out`."""

        def separable(channels: int, kernel: int, stride: int = stride) -> BranchSeparables:
            return BranchSeparables(channels, out, kernel, stride, zero_pad, drop_path)

        self.comb_iter_0_left = separable(left, 5)
        self.comb_iter_0_right = self.pool_of_left(left, out, MaxPool(stride, zero_pad))
        self.comb_iter_1_left = separable(right, 7)
        self.comb_iter_1_right = MaxPool(stride, zero_pad)
        self.comb_iter_2_left = separable(right, 5)
        self.comb_iter_2_right = separable(right, 3)
        self.comb_iter_3_left = separable(out, 3, stride=1)  # its input is the sum of pair 2
        self.comb_iter_3_right = MaxPool(stride, zero_pad)
        self.comb_iter_4_left = separable(left, 3)
        self.comb_iter_4_right: Optional[nn.Module] = ReluConvBn(right, out, stride) if stride == 2 else None

    def pool_of_left(self, left: int, out: int, pool: MaxPool) -> nn.Module:
        """The right operation of pair 0; that of the stem also changes the number of channels."""
        return pool

    def combine(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """[B, left, H, W] and [B, right, H, W] to [B, 5 * out, H / stride, W / stride], rounded up."""
        pair_0 = self.comb_iter_0_left(left) + self.comb_iter_0_right(left)
        pair_1 = self.comb_iter_1_left(right) + self.comb_iter_1_right(right)
        pair_2 = self.comb_iter_2_left(right) + self.comb_iter_2_right(right)
        pair_3 = self.comb_iter_3_left(pair_2) + self.comb_iter_3_right(right)
        shortcut = right if self.comb_iter_4_right is None else self.comb_iter_4_right(right)
        pair_4 = self.comb_iter_4_left(left) + shortcut
        return torch.cat([pair_0, pair_1, pair_2, pair_3, pair_4], 1)


class CellStem0(CellBase):
    """The first cell of the stem: [B, channels, H, W], both inputs of the cell, to [B, 5 * out, H / 2, W / 2]."""

    def __init__(self, channels: int, out: int, zero_pad: bool) -> None:
        super().__init__()
        self.conv_1x1 = ReluConvBn(channels, out)
        self.add_pairs(channels, out, out, stride=2, zero_pad=zero_pad, drop_path=0.0)

    def pool_of_left(self, left: int, out: int, pool: MaxPool) -> nn.Module:
        """Max pool, 1x1 convolution, BN."""
        conv, norm = nn.Conv2d(left, out, 1, bias=False), nn.BatchNorm2d(out, eps=EPSILON)
        return nn.Sequential(OrderedDict([("max_pool", pool), ("conv", conv), ("bn", norm)]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.combine(x, self.conv_1x1(x))


class Cell(CellBase):
    """[B, left, H', W'] and [B, right, H, W] to [B, 5 * out, H / stride, W / stride], rounded up.

    `left` and `right` are the channels of the outputs of the last cell but one and of the last one. With `halve_left`
    the left input is twice as large as the right one and is reduced first.
    """

    def __init__(
        self, left: int, right: int, out: int, stride: int, halve_left: bool, zero_pad: bool, drop_path: float
    ) -> None:
        super().__init__()
        self.conv_prev_1x1 = FactorizedReduction(left, out, zero_pad) if halve_left else ReluConvBn(left, out)
        self.conv_1x1 = ReluConvBn(right, out)
        self.add_pairs(out, out, out, stride, zero_pad, drop_path)

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return self.combine(self.conv_prev_1x1(left), self.conv_1x1(right))
