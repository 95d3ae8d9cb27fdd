"""Evaluation of image files by a network with new weights, decoding included. Needs torch and Pillow; the peer timm.

The peer's loop is that of timm's validate.py, whose file is not in timm's package, built from timm's own functions:
create_dataset, create_loader with its prefetcher, its accuracy, loss and accuracies read on the host after every batch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from benchmarks.contender import Contender, Options
from benchmarks.contenders.imagenet_step import TIMM
from benchmarks.torchvision_import import import_torchvision
from shared.run.log import RunLog
from shared.system.signals import Interrupts
from torch_imagenet.devices.device import open_device
from torch_imagenet.distributed.process_group import ALONE
from torch_imagenet.evaluation import Evaluator, evaluated_setup
from torch_imagenet.input_pipeline.dataset import load_data
from torch_imagenet.input_pipeline.loader import EvaluationInput
from torch_imagenet.options import RunConfig


def ours(options: Options) -> Contender:
    """The evaluation of this program: exact counts, no host synchronisation but the logits'."""
    words = ["evaluate", f"--network={options['network']}", f"--eval-batch-size={options['batch']}"]
    words += [f"--image-size={options['size']}", f"--workers={options['workers']}", f"--device={options['device']}"]
    config = RunConfig.from_argv([*words, f"--data-path={options['data']}", f"--precision={options['precision']}"])
    device, data = open_device(options["device"]), load_data(config)
    setup = evaluated_setup(config, device, ALONE, None, len(data.content.classes), data)
    network = device.place(setup.spec.make(), setup.memory_format).eval()
    images = EvaluationInput.from_setup(setup, data.content.val)
    evaluator = Evaluator(setup, images, Interrupts(), RunLog(None, silent=True))

    def run(attempt: int) -> int:
        return int(evaluator.count(network, network).images)

    return Contender(run, f"this program's evaluation, {setup.memory_format}")


def timm(options: Options) -> Contender:
    """timm's validate.py, with its own network. The device is not opened by this program."""
    import_torchvision()
    import timm as package
    from timm.data import create_dataset, create_loader, resolve_data_config
    from timm.utils import AverageMeter, accuracy

    device = torch.device(options["device"])
    dataset: Any = create_dataset("", root=str(Path(options["data"]) / "val"), split="validation")
    classes = len(dataset.reader.class_to_idx)
    network = package.create_model(TIMM[options["network"]], num_classes=classes).to(device).eval()
    settings = resolve_data_config({"input_size": (3, options["size"], options["size"])}, model=network)
    loader: Any = create_loader(
        dataset,
        input_size=settings["input_size"],
        batch_size=options["batch"],
        interpolation=settings["interpolation"],
        mean=settings["mean"],
        std=settings["std"],
        crop_pct=settings["crop_pct"],
        num_workers=options["workers"],
        device=device,
    )

    @torch.inference_mode()
    def run(attempt: int) -> int:
        loss, top1, top5 = AverageMeter(), AverageMeter(), AverageMeter()
        for images, labels in loader:
            logits = network(images)
            value = torch.nn.functional.cross_entropy(logits, labels)
            first, fifth = accuracy(logits, labels, topk=(1, 5))
            for meter, result in ((loss, value), (top1, first), (top5, fifth)):
                meter.update(result.item(), len(labels))
        return int(loss.count)

    return Contender(run, "timm's validate.py, rebuilt from its functions, contiguous")
