"""The networks as others wrote them: timm's, Cadene's, and torchvision's ResNet-50 with a gate hooked in."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import List

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
    """timm's network of our `name`, float64, with weights that show every mistake."""
    import_torchvision()
    timm = pytest.importorskip("timm")
    torch.manual_seed(1)
    return randomised(timm.create_model(TIMM[name], num_classes=num_classes, drop_rate=0.0)).double()


def cadene_network(name: str, num_classes: int = CLASSES, any_size: bool = True) -> nn.Module:
    """Cadene's network of our `name`, float64. Its head's window is as wide as the map where `any_size`.

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
    torch.manual_seed(1)
    network = getattr(sys.modules[module_name], function)(num_classes=num_classes, pretrained=None)
    if any_size:
        network.avg_pool = nn.AdaptiveAvgPool2d(1)
    return randomised(network).double()


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
        self.squeeze = nn.Parameter(torch.randn(channels // 16, channels) / channels**0.5)
        self.excite = nn.Parameter(torch.randn(channels, channels // 16) / (channels // 16) ** 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = (x.mean(dim=(2, 3)) @ self.squeeze.T).clamp(min=0)
        return torch.einsum("bchw,bc->bchw", x, torch.sigmoid(hidden @ self.excite.T))


def gated_resnet50(num_classes: int = CLASSES) -> nn.Module:
    """torchvision's ResNet-50 whose bn3 outputs are gated by forward hooks; float64."""
    torchvision = import_torchvision()
    torch.manual_seed(1)
    network = torchvision.models.resnet50(num_classes=num_classes)
    for layer in (network.layer1, network.layer2, network.layer3, network.layer4):
        for block in layer:
            block.gate = _Gate(block.bn3.num_features)
            gate = block.gate
            block.bn3.register_forward_hook(lambda module, inputs, output, gate=gate: gate(output))
    return randomised(network).double()


def as_port(state: dict) -> dict:
    """The state dict of `gated_resnet50` in the port's names."""
    names = {"gate.squeeze": "se.fc.0.weight", "gate.excite": "se.fc.2.weight"}
    renamed = {}
    for key, value in state.items():
        for name, new in names.items():
            key = key.replace(name, new)
        renamed[key] = value
    return renamed


def randomised(network: nn.Module) -> nn.Module:
    """Batch normalisation with statistics, scales and shifts that matter, the same from call to call."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.normal_(0, 0.2, generator=generator)
                module.running_mean.normal_(0, 0.2, generator=generator)
                module.running_var.uniform_(0.5, 1.5, generator=generator)
    return network


def images(*shape: int, seed: int = 3) -> torch.Tensor:
    """Normal noise [*shape] float64, as normalised images are."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def logits(network: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The network's output in evaluation."""
    with torch.no_grad():
        return network.eval()(x)


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """Relative to b."""
    return ((a - b).norm() / b.norm()).item()


def losses_of_ten_steps(network: nn.Module, x: torch.Tensor, learning_rate: float) -> List[float]:
    """Ten steps of SGD with the ports' momentum, weight decay and label smoothing, on one batch. Dropout must be 0.

    Training multiplies rounding errors: the rate is to be one at which they stay small and the loss still falls.
    """
    network.train()
    labels = torch.arange(len(x)) % CLASSES
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    optimizer = torch.optim.SGD(network.parameters(), learning_rate, momentum=0.9, weight_decay=1e-4, fused=True)
    losses = []
    for _ in range(10):
        optimizer.zero_grad()
        loss = criterion(network(x), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses
