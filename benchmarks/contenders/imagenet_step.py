"""A training step on one synthetic batch. Needs torch; the peer needs timm.

timm's step is that of its train.py with its own network: float32 images normalised beforehand, forward under autocast,
SGD, and the loss read on the host. This program's normalises uint8 images on the device, uses its own optimizer step
and reads nothing. Neither loads data. A round queues options["steps"] steps and waits for the last one.
"""

from __future__ import annotations

from typing import Any, Callable, List

import torch

from benchmarks.contender import Contender, Options
from benchmarks.torchvision_import import import_torchvision
from torch_imagenet.benchmark import SyntheticStep
from torch_imagenet.devices.device import MEMORY_FORMATS, Device, open_device
from torch_imagenet.devices.precision import precision
from torch_imagenet.distributed.process_group import ALONE
from torch_imagenet.networks.registry import NETWORKS
from torch_imagenet.options import RunConfig

TIMM = {"senet154": "legacy_senet154", "se_resnet50_caffe": "legacy_seresnet50", "pnasnet5large": "pnasnet5large"}
CLASSES = 1000


def config_of(options: Options) -> RunConfig:
    """The command line of this program for a step; timm's networks have no second head and no drop path."""
    words = ["benchmark", f"--network={options['network']}", f"--precision={options['precision']}"]
    words += [f"--batch-size={options['batch']}", f"--image-size={options['size']}", f"--device={options['device']}"]
    words += ["--drop-path=0", *(["--auxiliary-weight=0"] if NETWORKS[options["network"]].auxiliary_head else [])]
    if options.get("layout"):
        words.append(f"--memory-format={options['layout']}")
    return RunConfig.from_argv([*words, *(["--compile"] if options.get("compiled") else [])])


def ours(options: Options) -> Contender:
    """The step of a training of this program with these options."""
    device = open_device(options["device"])
    step = SyntheticStep(config_of(options), device, ALONE)
    layout = step.setup.memory_format
    return Contender(_rounds(step.train, device, options), _what("this program", layout, options), device=_name(device))


def timm(options: Options) -> Contender:
    """timm's step."""
    import_torchvision()
    import timm as package

    device, size = open_device(options["device"]), options["size"]
    where, layout = device.torch_device, options.get("layout") or "contiguous"
    network = package.create_model(TIMM[options["network"]], num_classes=CLASSES).to(where).train()
    network = network.to(memory_format=MEMORY_FORMATS[layout])
    images = torch.randn(options["batch"], 3, size, size, device=where).contiguous(memory_format=MEMORY_FORMATS[layout])
    labels = torch.randint(0, CLASSES, (options["batch"],), device=where)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4, nesterov=True)
    forward: Any = torch.compile(network) if options.get("compiled") else network
    level = precision(options["precision"])

    def step() -> None:
        with device.autocast(level):
            loss = torch.nn.functional.cross_entropy(forward(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()  # waits for the device

    return Contender(_rounds(step, device, options), _what("timm", layout, options), device=_name(device))


def _rounds(step: Callable[[], None], device: Device, options: Options) -> Callable[[int], int]:
    steps = options.get("steps", 1)

    def run(attempt: int) -> int:
        for _ in range(steps):
            step()
        device.synchronize()
        return steps * int(options["batch"])

    return run


def _what(who: str, layout: str, options: Options) -> str:
    parts: List[str] = [who, layout, {"O0": "float32"}.get(options["precision"], options["precision"])]
    return ", ".join([*parts, *(["compiled"] if options.get("compiled") else [])])


def _name(device: Device) -> str:
    return device.name if device.asynchronous else ""
