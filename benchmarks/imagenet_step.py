"""A training step of timm against one of this program, alternating in one process.

    python benchmarks/imagenet_step.py [--network se_resnet50_caffe] [--device cpu] [--precision O0]
                                       [--batch-size 32] [--image-size 128] [--rounds 15]

Both train the same network on the same synthetic images. timm's step is that of its train.py with its own network:
float32 images normalised beforehand, forward under autocast, scaler, SGD, and the loss read on the host after every
step (`loss.item()`); with --compile its network is compiled, as by its --torchcompile. The step of this program
normalises uint8 images on the device, uses fused SGD and reads nothing. Needs timm (requirements/test-imagenet.txt).
The other options are those of torch_imagenet/main.py.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch  # noqa: E402

from benchmarks.timing import Contender, measure, report  # noqa: E402
from benchmarks.torchvision_import import import_torchvision  # noqa: E402
from shared.cli.parser import number, one_of  # noqa: E402
from torch_imagenet.benchmark import SyntheticStep  # noqa: E402
from torch_imagenet.devices.device import open_device  # noqa: E402
from torch_imagenet.distributed.process_group import ALONE  # noqa: E402
from torch_imagenet.options import RunConfig  # noqa: E402

TIMM = {"senet154": "legacy_senet154", "se_resnet50_caffe": "legacy_seresnet50", "pnasnet5large": "pnasnet5large"}


def timms_step(ours: SyntheticStep, channels_last: bool) -> Contender:
    """The step of timm's train.py on the network, images, device and precision of our step."""
    import_torchvision()
    import timm

    spec, device = ours.setup.spec, ours.setup.device
    images = ours.normalise(ours.batch.images).float().contiguous()
    network = timm.create_model(TIMM[spec.name], num_classes=spec.num_classes).to(device.torch_device).train()
    if channels_last:
        network = network.to(memory_format=torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)
    mode = ours.setup.config.compile
    forward = torch.compile(network, mode=mode) if mode else network
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4, nesterov=True)
    scaler = torch.amp.GradScaler(device.torch_device.type, enabled=ours.setup.precision.name == "O1")

    def step(attempt: int) -> int:
        with device.autocast(ours.setup.precision):
            loss = torch.nn.functional.cross_entropy(forward(images), ours.batch.labels)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        loss.item()  # waits for the device
        return len(images)

    return step


def main() -> None:
    """Parse the options, run the rounds and print the figures."""
    parser = argparse.ArgumentParser(allow_abbrev=False, epilog="The other options are those of main.py.")
    parser.add_argument("--rounds", type=number(int, 3), default=15)
    parser.add_argument("--timm-memory-format", type=one_of("channels_last", "contiguous"), default="contiguous")
    own, rest = parser.parse_known_args()
    config = RunConfig.from_argv(["--batch-size=32", "--image-size=128", "--precision=O0", *rest])
    config = dataclasses.replace(config, network=config.network or "se_resnet50_caffe")
    device = open_device(config.device)
    ours = SyntheticStep(config, device, ALONE)

    def our_step(attempt: int) -> int:
        ours.train()
        device.synchronize()
        return len(ours.batch.images)

    theirs = timms_step(ours, own.timm_memory_format == "channels_last")
    contenders = {f"timm, {own.timm_memory_format}": theirs, "ours": our_step}
    print(f"{ours.line()}, {device.name}, {ours.setup.precision.name}")
    print(report(measure(contenders, own.rounds, warm_up=2)), end="")


if __name__ == "__main__":
    main()
