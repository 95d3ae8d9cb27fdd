"""The networks as others wrote them: timm's, Cadene's, and torchvision's ResNet-50 with a gate hooked in."""

from __future__ import annotations

import importlib.util
import sys
import zlib
from pathlib import Path
from typing import Callable

import numpy as np
import pytest
import torch
from torch import nn

from tests.torch_imagenet.conftest import import_torchvision

CLASSES = 10
TIMM = {"senet154": "legacy_senet154", "se_resnet50_caffe": "legacy_seresnet50", "pnasnet5large": "pnasnet5large"}
CADENE = {
    "senet154": ("senet", "senet154"),
    "se_resnet50_caffe": ("senet", "se_resnet50"),
    "pnasnet5large": ("pnasnet", "pnasnet5large"),
}


def timm_network(name: str, num_classes: int = CLASSES) -> nn.Module:
    """timm's network of our `name`, `drawn`."""
    import_torchvision()
    timm = pytest.importorskip("timm")
    with torch.device("meta"):  # weights that are drawn anew need not be drawn before
        network = timm.create_model(TIMM[name], num_classes=num_classes, drop_rate=0.0)
    return drawn(network)


def cadene_network(name: str, num_classes: int = CLASSES, any_size: bool = True) -> nn.Module:
    """Cadene's network of our `name`, `drawn`. Its head's window is as wide as the map where `any_size`.

    Read from its own file: the package's other parts want packages that nothing here needs.
    """
    package = importlib.util.find_spec("pretrainedmodels")
    if package is None:
        pytest.skip("pretrainedmodels is not installed")
    file, function = CADENE[name]
    module_name = f"cadene_{file}"
    if module_name not in sys.modules:
        path = Path(package.submodule_search_locations[0]) / "models" / f"{file}.py"
        spec = importlib.util.spec_from_file_location(module_name, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        sys.modules[module_name] = module
    with torch.device("meta"):
        network = getattr(sys.modules[module_name], function)(num_classes=num_classes, pretrained=None)
    if any_size:
        network.avg_pool = nn.AdaptiveAvgPool2d(1)
    return drawn(network)


def port_pnasnet(num_classes: int = CLASSES) -> nn.Module:
    """Cadene's PNASNet with the zero padding taken out where the port took it out."""
    network = cadene_network("pnasnet5large", num_classes)
    for module in network.modules():
        if hasattr(module, "zero_pad"):
            module.zero_pad = None
        if hasattr(module, "path_2"):
            module.path_2.pad = nn.ZeroPad2d((1, 0, 1, 0))  # and its forward crops what this adds
    return network


class _Gate(nn.Module):
    """The gate of the port, written plainly: x times sigmoid(B relu(A mean(x)))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = nn.Parameter(torch.empty(channels // 16, channels))
        self.excite = nn.Parameter(torch.empty(channels, channels // 16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = (x.mean(dim=(2, 3)) @ self.squeeze.T).clamp(min=0)
        return torch.einsum("bchw,bc->bchw", x, torch.sigmoid(hidden @ self.excite.T))


def gated_resnet50(num_classes: int = CLASSES) -> nn.Module:
    """torchvision's ResNet-50 whose bn3 outputs are gated by forward hooks; `drawn`."""
    torchvision = import_torchvision()
    with torch.device("meta"):
        network = torchvision.models.resnet50(num_classes=num_classes)
        for layer in (network.layer1, network.layer2, network.layer3, network.layer4):
            for block in layer:
                block.gate = _Gate(block.bn3.num_features)
                gate = block.gate
                block.bn3.register_forward_hook(lambda module, inputs, output, gate=gate: gate(output))
    return drawn(network, in_the_port)


def in_the_port(key: str) -> str:
    """The port's name of a tensor of `gated_resnet50`."""
    return key.replace("gate.squeeze", "se.fc.0.weight").replace("gate.excite", "se.fc.2.weight")


def drawn(network: nn.Module, rename: Callable[[str], str] = str) -> nn.Module:
    """The network, float64, with weights that show every mistake: equal for equal names, wherever they are drawn.

    numpy's RandomState gives the same bits on every machine and in every version, torch's generators do not. The pool
    of numbers, as many as a prime, is shorter than most weights and begins elsewhere for each.
    """
    pool = torch.from_numpy(np.random.RandomState(2).standard_normal(99_991))
    network = network.double().to_empty(device="cpu")
    with torch.no_grad():
        for key, tensor in network.state_dict().items():
            name = rename(key)
            source = pool.roll(zlib.crc32(name.encode()) % len(pool))
            if tensor.ndim > 1:
                source = source * (2 / tensor[0].numel()) ** 0.5
            elif name.endswith("bias") or name.endswith("running_mean"):
                source = source * 0.2
            else:  # scales and variances; a residual network of many blocks with scales of 1 overflows
                source = 1 + 0.5 * source.tanh() if name.endswith("running_var") else 0.5 + 0.25 * source.tanh()
            for piece in tensor.view(-1).split(len(source)):
                piece.copy_(source[: len(piece)] if tensor.is_floating_point() else torch.zeros([]))
    return network
