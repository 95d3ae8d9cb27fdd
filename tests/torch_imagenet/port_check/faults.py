"""Faults of a port, planted on the side that is compared, and where the comparison has to find each."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any, Callable, Dict, NamedTuple, Optional, Tuple

import numpy as np
import torch
from torch import nn

from shared import recipes
from shared.port_check.report import Comparison
from shared.port_check.trace import Trace
from shared.recipes.imagenet import ImageNetRecipe
from torch_imagenet.devices.device import Device, open_device
from torch_imagenet.devices.precision import precision
from torch_imagenet.distributed.process_group import ALONE
from torch_imagenet.input_pipeline.loader import Batch
from torch_imagenet.networks.senet import caffe_bottleneck
from torch_imagenet.networks.spec import NetworkSpec
from torch_imagenet.options import RunConfig
from torch_imagenet.port_check.record_step import record_step
from torch_imagenet.port_check.reference import compare_trace
from torch_imagenet.run.setup import RunSetup
from torch_imagenet.step.loss_scale import LossScale

CLASSES = 5


class TinySENet(nn.Module):
    """The real bottlenecks, three of them, 37,000 weights; images [B, 3, H, W] to logits [B, 5]."""

    def __init__(self) -> None:
        super().__init__()
        stem = [nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True)]
        self.stem = nn.Sequential(*stem, nn.MaxPool2d(3, 2, ceil_mode=True))
        self.layer1 = caffe_bottleneck(16, 16, 1, 0.0)
        self.layer2 = caffe_bottleneck(64, 16, 1, 0.0)
        self.layer3 = caffe_bottleneck(64, 32, 2, 0.0)
        self.fc = nn.Linear(128, CLASSES)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """See the class."""
        x = self.layer3(self.layer2(self.layer1(self.stem(images))))
        logits: torch.Tensor = self.fc(x.mean(dim=(2, 3)))
        return logits


class Fault(NamedTuple):
    """How it is planted, and the first check that it must fail: stage, layer, and what the quantity's name holds."""

    stage: str
    layer: str
    quantity: str
    network: Callable[[nn.Module], Any] = lambda network: None
    recipe: Callable[[ImageNetRecipe], ImageNetRecipe] = lambda recipe: recipe
    patch: Optional[Tuple[Any, str, Any]] = None  # object, attribute, value
    precisions: Tuple[str, ...] = ("O0", "bf16")
    weights: Callable[[nn.Module], Any] = lambda network: None  # of both sides: the situation, not the fault


def _epsilon(network: Any) -> None:
    network.layer2.bn2.eps = 1e-3


def _channels(network: Any) -> None:
    forward = network.forward
    network.forward = lambda images: forward(images.flip(1))


def _evaluation_mode(network: Any) -> None:
    network.layer2.bn1.training = False
    network.layer2.bn1.train = lambda mode=True: network.layer2.bn1


def _stale_mean(network: Any) -> None:
    network.layer2.bn1.momentum = 0.0


def _one_weight(network: Any) -> None:
    network.layer2.conv2.weight.data[3, 4, 1, 1] += 0.01


def _transposed(network: Any) -> None:
    weight = network.layer2.conv2.weight
    weight.data = weight.data.transpose(2, 3).contiguous()


def _transposed_in_use(network: Any) -> None:
    """The weights are right where they are stored; the layer uses them wrongly."""
    layer = network.layer2.conv2
    layer.forward = lambda x: nn.functional.conv2d(x, layer.weight.transpose(2, 3), None, 1, 1)


def _gate_after_addition(network: Any) -> None:
    block = network.layer2

    def forward(x: torch.Tensor) -> Any:
        branch = block.relu(block.bn1(block.conv1(x)))
        branch = block.bn3(block.conv3(block.relu(block.bn2(block.conv2(branch)))))
        return block.relu(block.se_module(branch + x))

    block.forward = forward


def _huge(network: Any) -> None:
    network.layer2.conv3.weight.data *= 1e5


def _scale_twice(self: LossScale, loss: torch.Tensor) -> torch.Tensor:
    return torch.amp.GradScaler.scale(self, torch.amp.GradScaler.scale(self, loss))


FAULTS: Dict[str, Fault] = {
    "wrong epsilon": Fault("forward", "layer2.bn2", "output", _epsilon),
    "swapped channel order": Fault("forward", "stem.0", "input", _channels),
    "batch normalisation in evaluation mode": Fault("forward", "layer2.bn1", "output", _evaluation_mode),
    "stale running mean": Fault("statistics", "layer2.bn1", "running_mean", _stale_mean),
    "one wrong weight": Fault("weights", "layer2.conv2", "weight", _one_weight),
    "transposed kernel": Fault("weights", "layer2.conv2", "weight", _transposed),
    "kernel transposed in use": Fault("forward", "layer2.conv2", "output", _transposed_in_use),
    "gate after the addition": Fault("forward", "layer2.se_module", "", _gate_after_addition),
    "another smoothing formula": Fault("loss", "", "loss", recipe=lambda r: r.override(smoothing="others")),
    "decay of biases and norms": Fault("update", "", "", recipe=lambda r: r.override(decayed="weights")),
    "loss scale applied twice": Fault(
        "backward", "fc", "output gradient", patch=(LossScale, "scale", _scale_twice), precisions=("O1",)
    ),
    "float16 overflow": Fault("forward", "layer2.conv3", "output", precisions=("O1",), weights=_huge),
}


def batch() -> Batch:
    """Four images of 32 pixels and their labels."""
    random = np.random.RandomState(0)
    pixels = random.randint(0, 256, (4, 32, 32, 3)).astype(np.uint8)
    return Batch(torch.from_numpy(pixels), torch.arange(4) % CLASSES, ())


def setup(level: str, device: Optional[Device] = None, recipe: Optional[ImageNetRecipe] = None) -> RunSetup:
    """Of the documented SE-ResNet-50, with label smoothing, at this precision."""
    scale = "64" if level == "O1" else None
    recipe = recipe or recipes.get("se_resnet50_1p").override(label_smoothing=0.1, smoothing="uniform")
    recipe = recipe.override(precision=level, loss_scale=scale)
    spec, device = NetworkSpec(recipe.network, CLASSES), device or open_device("cpu")
    return RunSetup(RunConfig.from_argv([]), device, ALONE, recipe, spec, precision(level), None)


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    """The network with random weights that are the same every time, batch normalisation's included."""
    torch.manual_seed(1)
    network = make()
    for name, value in network.named_parameters():
        if value.ndim == 1:
            torch.nn.init.uniform_(value, 0.5, 1.5) if name.endswith("weight") else torch.nn.init.uniform_(value, -1, 1)
    return network


def compared(fault: Optional[Fault], level: str, device: Optional[Device] = None, steps: int = 2) -> Comparison:
    """Record a step with the fault and compare it; `fault` None is a clean port."""
    fault = fault or Fault("", "", "")
    network = seeded(TinySENet)
    fault.weights(network)
    side = copy.deepcopy(network)
    fault.network(side)
    run = setup(level, device)
    trace = recorded(dataclasses.replace(run, recipe=fault.recipe(run.recipe)), side, fault, steps)
    return compare_trace(run.recipe, network, trace)


def recorded(run: RunSetup, side: nn.Module, fault: Fault, steps: int) -> Trace:
    """The trace of the side, with what the fault patches."""
    if fault.patch is None:
        return record_step(run, side, batch(), steps)
    holder, name, value = fault.patch
    kept = holder.__dict__.get(name)
    setattr(holder, name, value)
    try:
        return record_step(run, side, batch(), steps)
    finally:
        delattr(holder, name) if kept is None else setattr(holder, name, kept)
