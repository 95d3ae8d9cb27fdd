"""What all SE networks share: the residual bottleneck block, the four stages built of it, and how they are run."""

from __future__ import annotations

from typing import Any, Callable, Collection, Dict, Iterator, List, Optional, Sequence, Tuple

import torch
from torch import nn

from torch_imagenet.networks.classifier import STAGES, ImageClassifier
from torch_imagenet.networks.drop_path import DropPath
from torch_imagenet.networks.fused_gate import gated_residual, unseen
from torch_imagenet.networks.fused_norm import gated_residual_of_norm, kernels_for, norm_relu
from torch_imagenet.networks.grouped_conv import GroupedConv2d
from torch_imagenet.networks.squeeze_excitation import ConvGate

EXPANSION = 4  # a stage's output has 4 times its planes: 256, 512, 1024, 2048 channels


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions, each with batch normalisation; an SE gate; stochastic depth; the shortcut.

    He et al., arXiv 1512.03385, section 4.1, with the gate on the residual branch (Hu et al., arXiv 1709.01507,
    figure 3). `widths` are the output channels of the convolutions, `strides` the strides of the first two. `gate_name`
    is part of the state dict's keys. A shortcut that changes the shape is a projection of size `shortcut_kernel`.
    A `fused` block computes its end by `fused_gate` in training, unless a hook is to see it.
    """

    fused = False

    def __init__(
        self,
        channels: int,
        widths: Tuple[int, int, int],
        strides: Tuple[int, int],
        drop_path: float,
        groups: int = 1,
        gate: Callable[[int], nn.Module] = ConvGate,
        gate_name: str = "se_module",
        shortcut_kernel: int = 1,
    ) -> None:
        super().__init__()
        first, second, third = widths
        self.conv1 = nn.Conv2d(channels, first, 1, strides[0], bias=False)
        self.bn1 = nn.BatchNorm2d(first)
        convolution = nn.Conv2d if groups == 1 else GroupedConv2d
        self.conv2 = convolution(first, second, 3, strides[1], padding=1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(second)
        self.conv3 = nn.Conv2d(second, third, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(third)
        self.relu = nn.ReLU(inplace=True)
        self.drop_path = DropPath(drop_path)
        self.gate_name = gate_name
        self.add_module(gate_name, gate(third))
        self.downsample: Optional[nn.Sequential] = None
        stride = strides[0] * strides[1]
        if stride != 1 or channels != third:
            conv = nn.Conv2d(channels, third, shortcut_kernel, stride, padding=shortcut_kernel // 2, bias=False)
            self.downsample = nn.Sequential(conv, nn.BatchNorm2d(third))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] to [B, C', H / stride, W / stride], rounded up."""
        branch = norm_relu(self.conv1(x), self.bn1, self.relu)
        branch = norm_relu(self.conv2(branch), self.bn2, self.relu)
        branch, gate = self.conv3(branch), getattr(self, self.gate_name)
        if self.fused and self._alone(gate):
            kernels = kernels_for(branch, self.bn3)
            if kernels is not None:
                return gated_residual_of_norm(branch, self.bn3, self._shortcut(x), gate.excitation(), kernels)
            return gated_residual(self.bn3(branch), self._shortcut(x), gate.excitation())
        branch = self.drop_path(gate(norm_relu(branch, self.bn3)))
        output: torch.Tensor = self.relu(branch + self._shortcut(x))
        return output

    def _shortcut(self, x: torch.Tensor) -> torch.Tensor:
        if self.downsample is None:
            return x
        convolution, norm = list(self.downsample)
        return norm_relu(convolution(x), norm) if unseen(self.downsample) else self.downsample(x)

    def _alone(self, gate: nn.Module) -> bool:
        """Whether this is training, and nothing happens between the gate, the sum and the ReLU, nor looks at them."""
        return self.training and torch.is_grad_enabled() and self.drop_path.rate == 0 and unseen(self.relu, gate)


def fuse_gates(network: nn.Module) -> nn.Module:
    """Make the blocks of the network `fused`; returns the network. A compiler fuses by itself what it can see."""
    for block in network.modules():
        if isinstance(block, Bottleneck):
            block.fused = True
    return network


def zero_init_last(network: nn.Module) -> None:
    """Every block begins as its shortcut: the scale of its last normalisation is zero (Goyal et al., 1706.02677, 5.1).

    As torchvision's `zero_init_residual` and timm's `zero_init_last`.
    """
    for block in network.modules():
        if isinstance(block, Bottleneck):
            nn.init.zeros_(block.bn3.weight)


def stages(
    make: Callable[[int, int, int, float], Bottleneck], blocks: Sequence[int], channels: int, drop_path: float
) -> Iterator[nn.Sequential]:
    """Four stages with these numbers of `blocks` and 64, 128, 256 and 512 planes.

    make(channels, planes, stride, drop_path) builds a block from `channels` to EXPANSION * planes channels. The first
    block of every stage but the first has stride 2. The rate of stochastic depth grows linearly with the depth, to
    `drop_path` at the last block (Huang et al., arXiv 1603.09382, section 3).
    """
    depth = 0
    for stage, count in enumerate(blocks):
        planes = 64 * 2**stage
        layers = []
        for block in range(count):
            depth += 1
            stride = 2 if stage > 0 and block == 0 else 1
            layers.append(make(channels, planes, stride, drop_path * depth / sum(blocks)))
            channels = EXPANSION * planes
        yield nn.Sequential(*layers)


class StagedNetwork(ImageClassifier):
    """A stem, which halves the image twice, and the layers layer1 to layer4.

    The first feature map is the stem's before its pooling, the second halving.
    """

    num_features = 512 * EXPANSION

    def stem(self, images: torch.Tensor, unpooled: Optional[List[torch.Tensor]]) -> torch.Tensor:
        """[B, 3, H, W] to [B, C, H / 4, W / 4]; the map before the pooling is appended to `unpooled`."""
        raise NotImplementedError

    def maps(self, images: torch.Tensor, last: int, kept: Collection[int]) -> Tuple[torch.Tensor, List[torch.Tensor]]:
        """See `ImageClassifier.maps`."""
        found: List[torch.Tensor] = []
        x = self.stem(images, found if 0 in kept else None)
        for stage in range(1, last + 1):
            x = getattr(self, f"layer{stage}")(x)
            found += [x] if stage in kept else []
        return x, found


def feature_info(stem: str, channels: int) -> List[Dict[str, Any]]:
    """The five stages of a StagedNetwork; `stem` is the module whose output is the first map, of these `channels`."""
    info = [{"num_chs": channels, "reduction": 2, "module": stem}]
    return info + [
        {"num_chs": 32 * EXPANSION * 2**stage, "reduction": 2 ** (stage + 1), "module": f"layer{stage}"}
        for stage in range(1, STAGES)
    ]
