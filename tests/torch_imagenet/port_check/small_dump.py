"""A small network and a step of it, as msProbe dumped it: msprobe_dump.zip in this folder.

`python -m tests.torch_imagenet.port_check.small_dump tensor` makes tensor/ anew where msProbe is installed, and so with
statistics. The archive is that of msProbe 26.2.0 and torch 2.13.0 on a CPU, without stack.json, which has the paths of
a machine.
"""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path

import torch
from torch import nn

ARCHIVE = Path(__file__).with_name("msprobe_dump.zip")


class SmallNet(nn.Module):
    """A convolution, a residual block and a linear layer; images [B, 3, 6, 6] to logits [B, 3]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.branch = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, groups=2, bias=False), nn.BatchNorm2d(4))
        self.fc = nn.Linear(4, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """See the class."""
        x = self.relu(self.bn(self.conv(images)))
        x = self.relu(self.branch(x) + x)
        logits: torch.Tensor = self.fc(x.mean(dim=(2, 3)))
        return logits


def small_net() -> SmallNet:
    """The network with weights of a formula, which no version of a generator changes."""
    network = SmallNet()
    for number, parameter in enumerate(network.parameters()):
        values = torch.arange(parameter.numel(), dtype=torch.float64) + number
        parameter.data = (values.sin() * 0.5 + (parameter.ndim == 1)).float().reshape(parameter.shape)
    return network


def step(network: nn.Module) -> None:
    """Forward and backward pass of two images."""
    images = (torch.arange(216, dtype=torch.float64) * 0.7).cos().float().reshape(2, 3, 6, 6)
    nn.functional.cross_entropy(network(images), torch.tensor([0, 2])).backward()


def unpacked(folder: Path, task: str = "tensor") -> Path:
    """The folder of msProbe's dump of this task, unpacked into `folder`."""
    with zipfile.ZipFile(ARCHIVE) as archive:
        archive.extractall(folder, [name for name in archive.namelist() if name.startswith(f"{task}/")])
    return folder / task


def main() -> None:
    """Make the dump in the current folder."""
    from msprobe.pytorch import PrecisionDebugger

    task = sys.argv[1]
    config = {"task": task, "dump_path": task, "rank": [], "step": [], "level": "L0"}
    config[task] = {"scope": [], "list": [], "data_mode": ["all"], "summary_mode": "statistics"}
    Path("config.json").write_text(json.dumps(config))
    network, debugger = small_net(), PrecisionDebugger(config_path="config.json")
    debugger.start(model=network)
    step(network)
    debugger.stop()
    debugger.step()


if __name__ == "__main__":
    main()
