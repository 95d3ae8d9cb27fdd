"""torchvision's ImageNet input pipeline against that of this program, alternating in one process.

    python benchmarks/imagenet_input.py --data-path FOLDER [--workers 0,2] [--batch-size 64] [--rounds 5]

FOLDER holds one folder of images per class, like train/ of ImageNet. torchvision's pipeline is ImageFolder,
RandomResizedCrop, RandomHorizontalFlip, ToTensor, Normalize, and a DataLoader that collates float32 images. This
program's makes uint8 batches, which are normalised on the device. Each is therefore measured twice: with normalisation
on the CPU and without. 0 workers measure one core. The images are repeated to about --images per epoch. A round times
one epoch of each. Prints the medians over the rounds, the median and range of the ratio to torchvision's float32
pipeline in the same round, and the difference between the pixels of the same crops: this program resizes the box in one
pass, torchvision crops first.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

from benchmarks.timing import Epoch, compare_epochs  # noqa: E402
from benchmarks.torchvision_import import import_torchvision  # noqa: E402
from shared.cli.arguments import Parser, number, whole_numbers  # noqa: E402
from shared.errors import UsageError  # noqa: E402
from shared.imagenet.decode import read_rgb  # noqa: E402
from shared.imagenet.split import Split, scan  # noqa: E402
from shared.rng import image_random  # noqa: E402
from shared.system.paths import expanded  # noqa: E402
from torch_imagenet.input_pipeline.loader import Loading, TrainingInput  # noqa: E402
from torch_imagenet.input_pipeline.transforms import TrainTransform, cut_out, random_resized_crop  # noqa: E402
from torch_imagenet.step.images import Normalisation  # noqa: E402

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def repeated(split: Split, times: int) -> Split:
    """The split with its images repeated."""
    lengths = np.tile(np.diff(split.offsets), times)
    return dataclasses.replace(
        split,
        labels=np.tile(split.labels, times),
        names=split.names * times,
        offsets=np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]),
    )


def torchvisions(torchvision: Any, options: Any, times: int, workers: int, normalised: bool) -> Epoch:
    """torchvision's pipeline; without `normalised` it ends with uint8 tensors."""
    transforms = torchvision.transforms
    last = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)] if normalised else [transforms.PILToTensor()]
    crop = [transforms.RandomResizedCrop(options.image_size), transforms.RandomHorizontalFlip()]
    folder = torchvision.datasets.ImageFolder(options.data_path, transforms.Compose(crop + last))
    folder.samples *= times
    loader: Any = DataLoader(
        folder, options.batch_size, shuffle=True, num_workers=workers, drop_last=True, persistent_workers=workers > 0
    )
    return lambda epoch: sum(len(labels) for _, labels in loader)


def ours(options: Any, split: Split, workers: int, normalised: bool) -> Epoch:
    """This program's pipeline; with `normalised` the main process normalises on the CPU."""
    batches = TrainingInput(split, TrainTransform(options.image_size), options.batch_size, 0, Loading(workers))
    normalise = Normalisation(MEAN, STD, torch.device("cpu"), torch.float32, channels_last=True)

    def epoch(number: int) -> int:
        images = 0
        for batch in batches.epoch(number):
            images += len(normalise(batch.images) if normalised else batch.images)
        return images

    return epoch


def pixel_difference(torchvision: Any, split: Split, size: int) -> str:
    """Mean and largest difference, of 255, over one crop of every image, the same for both pipelines."""
    functional = torchvision.transforms.functional
    total, largest = 0.0, 0
    for index in range(len(split)):
        image = read_rgb(split.path(index))
        box = random_resized_crop(image_random(0, 0, index), *image.size, (0.08, 1.0), (3 / 4, 4 / 3))
        ours = np.asarray(cut_out(image, box, size)).astype(int)
        theirs = functional.resized_crop(image, box.top, box.left, box.height, box.width, [size, size])
        difference = np.abs(ours - np.asarray(theirs))
        total += difference.mean()
        largest = max(largest, int(difference.max()))
    return f"pixels of the same crops, of 255: mean difference {total / len(split):.3f}, largest {largest}"


def main() -> None:
    """Compare the speed of the pipelines for each number of workers, then their pixels."""
    parser = Parser(description=__doc__)
    parser.add_argument("--data-path", type=expanded, required=True)
    parser.add_argument("--workers", type=whole_numbers, default=(0, 2))
    parser.add_argument("--batch-size", type=number(int, 1), default=64)
    parser.add_argument("--image-size", type=number(int, 32), default=224)
    parser.add_argument("--images", type=number(int, 1), default=1280)
    parser.add_argument("--rounds", type=number(int, 1), default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torchvision = import_torchvision()
    split = scan(options.data_path)
    if not len(split):
        raise UsageError(f"{split.folder} has no class folders with images; give the folder that contains them")
    times = -(-options.images // len(split))
    many = repeated(split, times)
    print(
        f"{len(split)} images {times} times, {options.image_size} pixels, batches of {options.batch_size},"
        f" {options.rounds} rounds; torch {torch.__version__}, torchvision {torchvision.__version__}"
    )
    for workers in options.workers:
        print(f"{workers} workers" if workers else "one core")
        contenders = {
            "torchvision, float32": torchvisions(torchvision, options, times, workers, True),
            "torchvision, uint8": torchvisions(torchvision, options, times, workers, False),
            "ours, uint8": ours(options, many, workers, False),
            "ours, normalised in the main process": ours(options, many, workers, True),
        }
        print("\n".join(compare_epochs(contenders, workers, options.rounds)))
    print(pixel_difference(torchvision, split, options.image_size))


if __name__ == "__main__":
    main()
