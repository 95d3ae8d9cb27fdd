"""A training step of timm against one of this program, each in a process of its own, in turns.

    python benchmarks/imagenet_step.py [--network se_resnet50_caffe] [--device cpu] [--precision O0]
                                       [--batch-size 32] [--image-size 128] [--rounds 15]

Both train the same network on synthetic images. timm's step is that of its train.py with its own network: float32
images normalised beforehand, forward under autocast, scaler, SGD, and the loss read on the host after every step
(`loss.item()`); with --compile its network is compiled, as by its --torchcompile. The step of this program normalises
uint8 images on the device, uses fused SGD and reads nothing. Needs timm (requirements/test-imagenet.txt). The other
options are those of torch_imagenet/main.py.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import List

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.timing import Contender, Process, measure, report, serve  # noqa: E402
from shared.cli.parser import number, one_of  # noqa: E402
from torch_imagenet.options import RunConfig  # noqa: E402

TIMM = {"senet154": "legacy_senet154", "se_resnet50_caffe": "legacy_seresnet50", "pnasnet5large": "pnasnet5large"}


def timms_step(config: RunConfig, channels_last: bool) -> Contender:
    """The step of timm's train.py; the device is not opened by this program, which would set up its process."""
    import torch

    from benchmarks.torchvision_import import import_torchvision
    from torch_imagenet.benchmark import CLASSES
    from torch_imagenet.devices.precision import precision

    import_torchvision()
    import timm

    device, level = torch.device(config.device), precision(config.precision or "O0")
    layout = torch.channels_last if channels_last else torch.contiguous_format
    shape = (config.batch_size or 32, 3, config.image_size or 128, config.image_size or 128)
    images = torch.randn(shape).to(device, memory_format=layout)
    labels = torch.randint(0, CLASSES, shape[:1]).to(device)
    network = timm.create_model(TIMM[str(config.network)], num_classes=CLASSES).to(device).train()
    network = network.to(memory_format=layout)
    forward = torch.compile(network, mode=config.compile) if config.compile else network
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4, nesterov=True)
    scaler = torch.amp.GradScaler(device.type, enabled=level.name == "O1")

    def step(attempt: int) -> int:
        with torch.autocast(device.type, dtype=level.autocast, enabled=level.autocast is not None):
            loss = torch.nn.functional.cross_entropy(forward(images), labels)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        loss.item()  # waits for the device
        return len(images)

    return step


def our_step(config: RunConfig) -> Contender:
    """The step that training runs, from uint8 images on the device to updated weights."""
    from torch_imagenet.benchmark import SyntheticStep
    from torch_imagenet.devices.device import open_device
    from torch_imagenet.distributed.process_group import ALONE

    device = open_device(config.device)
    ours = SyntheticStep(config, device, ALONE)
    print(f"{ours.line()}, {device.name}, {ours.setup.precision.name}", file=sys.stderr)

    def step(attempt: int) -> int:
        ours.train()
        device.synchronize()
        return len(ours.batch.images)

    return step


def main(argv: List[str]) -> None:
    """Parse the options, run the rounds and print the figures."""
    parser = argparse.ArgumentParser(allow_abbrev=False, epilog="The other options are those of main.py.")
    parser.add_argument("--rounds", type=number(int, 3), default=15)
    parser.add_argument("--timm-memory-format", type=one_of("channels_last", "contiguous"), default="contiguous")
    parser.add_argument("--serve", choices=("timm", "ours"), help=argparse.SUPPRESS)
    own, rest = parser.parse_known_args(argv)
    config = RunConfig.from_argv(["--device=cpu", "--batch-size=32", "--image-size=128", "--precision=O0", *rest])
    config = dataclasses.replace(config, network=config.network or "se_resnet50_caffe")
    if own.serve:
        serve(
            timms_step(config, own.timm_memory_format == "channels_last") if own.serve == "timm" else our_step(config)
        )
        return
    command = [sys.executable, str(Path(__file__).resolve())]
    with Process([*command, "--serve=timm", *argv]) as theirs, Process([*command, "--serve=ours", *argv]) as ours:
        contenders = {f"timm, {own.timm_memory_format}": theirs, "ours": ours}
        print(report(measure(contenders, own.rounds, warm_up=2)), end="")


if __name__ == "__main__":
    main(sys.argv[1:])
