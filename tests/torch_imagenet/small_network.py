"""A network of 3,000 weights with every kind of layer that the real ones have, for tests of everything around it."""

from __future__ import annotations

from typing import Any, Sequence

import torch
from torch import nn

from shared import recipes
from torch_imagenet.devices.device import open_device
from torch_imagenet.devices.precision import precision
from torch_imagenet.distributed.process_group import ALONE
from torch_imagenet.networks.drop_path import DropPath
from torch_imagenet.networks.grouped_conv import GroupedConv2d
from torch_imagenet.networks.spec import NetworkSpec
from torch_imagenet.networks.squeeze_excitation import LinearGate
from torch_imagenet.options import RunConfig
from torch_imagenet.run.setup import RunSetup
from torch_imagenet.step.training_step import TrainingStep


class SmallNetwork(nn.Module):
    """Convolution, grouped convolution, batch normalisation, SE gate, drop-path, dropout, and a head called fc."""

    def __init__(self, num_classes: int, dropout: float, drop_path: float) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.layer1 = nn.Sequential(GroupedConv2d(16, 16, 3, padding=1, groups=4, bias=False), nn.BatchNorm2d(16))
        self.se = LinearGate(16)
        self.drop_path = DropPath(drop_path)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(16, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """float [B, 3, H, W] -> logits [B, K]."""
        return self.forward_head(self.forward_features(images))

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        """The last feature map, [B, 16, H / 2, W / 2]."""
        features = self.stem(images)
        return torch.relu(features + self.drop_path(self.se(self.layer1(features))))

    def forward_head(self, features: torch.Tensor) -> torch.Tensor:
        """Logits [B, K] of that."""
        return self.fc(self.dropout(features.mean(dim=(2, 3))))


def training_step(
    network: nn.Module, num_classes: int, on: str = "cpu", words: Sequence[str] = (), **changes: Any
) -> TrainingStep:
    """A step of this network by the recipe se_resnet50_1p with these options and changes, at O0 unless they say so."""
    config, device = RunConfig.from_argv(["--device", on, *words]), open_device(on)
    recipe = recipes.get("se_resnet50_1p").override(**{"precision": "O0", "loss_scale": None, **changes})
    spec, level = NetworkSpec("se_resnet50", num_classes), precision(recipe.precision)
    return TrainingStep(network, RunSetup(config, device, ALONE, recipe, spec, level, None))


def create_small(name: str, num_classes: int, dropout: Any, drop_path: float, **options: Any) -> nn.Module:
    """Takes the place of `networks.create`."""
    return SmallNetwork(num_classes, dropout or 0.0, drop_path)
