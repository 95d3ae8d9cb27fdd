"""A training step on one synthetic batch. Needs torch; the peer needs timm.

timm's step is that of its train.py with its own network: float32 images normalised beforehand, forward under autocast,
SGD, and the loss read on the host. This program's normalises uint8 images on the device, uses its own optimizer step
and reads nothing. Neither loads data. A round queues options["steps"] steps and waits for the last one.
"""

from __future__ import annotations

from typing import Any, Callable

import torch

from benchmarks.contender import Contender, Options
from benchmarks.torchvision_import import import_torchvision
from torch_imagenet.benchmark import SyntheticStep
from torch_imagenet.devices.device import MEMORY_FORMATS, open_device
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
    what, name = _what("this program", step.setup.memory_format, options), device.name if device.asynchronous else ""
    return Contender(_rounds(step.train, device.torch_device, options), what, device=name)


def timm(options: Options) -> Contender:
    """timm's step. The device is not opened by this program, which would also set up the process."""
    import_torchvision()
    import timm as package

    where, size, layout = torch.device(options["device"]), options["size"], options.get("layout") or "contiguous"
    network = package.create_model(TIMM[options["network"]], num_classes=CLASSES).to(where).train()
    network = network.to(memory_format=MEMORY_FORMATS[layout])
    images = torch.randn(options["batch"], 3, size, size, device=where).contiguous(memory_format=MEMORY_FORMATS[layout])
    labels = torch.randint(0, CLASSES, (options["batch"],), device=where)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4, nesterov=True)
    forward: Any = torch.compile(network) if options.get("compiled") else network
    dtype = {"O0": None, "bf16": torch.bfloat16}[options["precision"]]

    def step() -> None:
        with torch.autocast(where.type, dtype=dtype, enabled=dtype is not None):
            loss = torch.nn.functional.cross_entropy(forward(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()  # waits for the device

    return Contender(_rounds(step, where, options), _what("timm", layout, options))


def _rounds(step: Callable[[], None], device: torch.device, options: Options) -> Callable[[int], int]:
    steps = options.get("steps", 1)

    def run(attempt: int) -> int:
        for _ in range(steps):
            step()
        torch.get_device_module(device).synchronize()
        return steps * int(options["batch"])

    return run


def _what(who: str, layout: str, options: Options) -> str:
    level = "float32" if options["precision"] == "O0" else str(options["precision"])
    return ", ".join([who, layout, level, *(["compiled"] if options.get("compiled") else [])])
