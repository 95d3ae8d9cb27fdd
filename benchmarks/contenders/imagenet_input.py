"""From JPEG files to batches, in the processor time of one core. Needs torch, torchvision and Pillow.

torchvision's pipeline is ImageFolder, RandomResizedCrop, RandomHorizontalFlip, ToTensor, Normalize, and a DataLoader;
with uint8 it ends before ToTensor. This program's makes uint8 batches, which are normalised on the device.
"""

from __future__ import annotations

import math
from typing import Any, Callable

import torch
from torch.utils.data import DataLoader

from benchmarks.contender import Contender, Options
from benchmarks.torchvision_import import import_torchvision
from torch_imagenet.devices.device import open_device
from torch_imagenet.distributed.process_group import ALONE
from torch_imagenet.input_pipeline.loader import Loading, TrainingInput
from torch_imagenet.input_pipeline.transforms import TrainTransform
from torch_imagenet.options import RunConfig
from torch_imagenet.run.setup import TrainingSetup

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def torchvision(options: Options) -> Contender:
    """torchvision's pipeline over the images of options["data"]/train, dtype options["dtype"]."""
    torch.set_num_threads(1)
    package: Any = import_torchvision()
    transforms = package.transforms
    last = [transforms.PILToTensor()]
    if options["dtype"] == "float32":
        last = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    crop = [transforms.RandomResizedCrop(options["size"]), transforms.RandomHorizontalFlip()]
    folder = package.datasets.ImageFolder(f"{options['data']}/train", transforms.Compose(crop + last))
    loader: Any = DataLoader(folder, options["batch"], shuffle=True, drop_last=True)
    run = _rounds(lambda _: sum(len(labels) for _, labels in loader), options["images"])
    return Contender(run, f"torchvision, {options['dtype']}", processor_time=True)


def ours(options: Options) -> Contender:
    """The training images of a run on options["data"], as its process would read them without workers."""
    torch.set_num_threads(1)
    words = ["--network=se_resnet50_caffe", f"--batch-size={options['batch']}", f"--image-size={options['size']}"]
    config = RunConfig.from_argv([*words, "--device=cpu", f"--data-path={options['data']}"])
    setup = TrainingSetup.from_config(config, open_device("cpu"), ALONE, None, None)
    recipe, loading = setup.recipe, Loading.from_setup(setup)._replace(workers=0)
    transform = TrainTransform.from_recipe(recipe)
    batches = TrainingInput(setup.data.train, transform, recipe.batch_size, recipe.seed, loading)
    run = _rounds(lambda number: sum(len(batch.labels) for batch in batches.epoch(number)), options["images"])
    return Contender(run, f"this program, uint8, decoder {setup.data.decoder}", processor_time=True)


def _rounds(epoch: Callable[[int], int], least: int) -> Callable[[int], int]:
    """Rounds of as many epochs as give `least` images."""
    epochs = math.ceil(least / epoch(0))
    return lambda attempt: sum(epoch(1 + attempt * epochs + number) for number in range(epochs))
