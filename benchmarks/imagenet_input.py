"""The usual input pipeline of ImageNet in PyTorch against ours, interleaved in one process, on the images of a folder.

    python benchmarks/imagenet_input.py --data-path FOLDER [--workers 0,2] [--batch-size 64] [--rounds 5]

FOLDER holds a folder of images per class, as train/ of ImageNet does. The usual pipeline is torchvision's: ImageFolder,
RandomResizedCrop, RandomHorizontalFlip, ToTensor, Normalize, and a DataLoader that collates float32 images. Ours makes
uint8 batches, which are normalised on the device; so it is shown a second time with the normalisation done here, by
the main process, and the usual one a second time without. 0 workers means one core, timed by the processor's clock, so
that other programs hardly count. The folder's images are repeated until there are about --images in an epoch. A round
times one epoch of each; workers are started before. Printed are medians over the rounds, the median and range of the
ratio to the usual pipeline in the same round, and how far the pixels of the same crops are apart: ours resizes the box
in one pass, torchvision crops first.
"""

from __future__ import annotations

import dataclasses
import statistics
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

from shared.cli.arguments import Parser, number, whole_numbers  # noqa: E402
from shared.errors import UsageError  # noqa: E402
from shared.imagenet.decode import read_rgb  # noqa: E402
from shared.imagenet.split import Split, scan  # noqa: E402
from shared.rng import image_random  # noqa: E402
from shared.system.paths import expanded  # noqa: E402
from torch_imagenet.input_pipeline.loader import TrainingInput  # noqa: E402
from torch_imagenet.input_pipeline.transforms import TrainTransform, cut_out, random_resized_crop  # noqa: E402
from torch_imagenet.step.normalisation import Normalisation  # noqa: E402

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Epoch = Callable[[int], int]  # zero-based epoch -> images seen


class Contender(NamedTuple):
    """A pipeline under measurement."""

    name: str
    epoch: Epoch


def import_torchvision() -> Any:
    """torchvision. Beside a torch for CPU its wheel for CUDA misses two operators, which no transform calls."""
    try:
        import torchvision
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision

        torchvision.kept = library  # it undoes its definitions when it is collected
    return torchvision


def repeated(split: Split, times: int) -> Split:
    """The split with each image that many times."""
    lengths = np.tile(np.diff(split.offsets), times)
    return dataclasses.replace(
        split,
        labels=np.tile(split.labels, times),
        names=split.names * times,
        offsets=np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]),
    )


def usual(torchvision: Any, options: Any, times: int, workers: int, normalised: bool) -> Epoch:
    """torchvision's pipeline; without `normalised`, up to the uint8 tensor."""
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
    """Ours; with `normalised`, on this machine's CPU, in the main process."""
    batches = TrainingInput(split, TrainTransform(options.image_size), options.batch_size, 0, workers)
    normalise = Normalisation(MEAN, STD, torch.device("cpu"), torch.float32, channels_last=True)

    def epoch(number: int) -> int:
        images = 0
        for batch in batches.epoch(number):
            images += len(normalise(batch.images) if normalised else batch.images)
        return images

    return epoch


def speed(epoch: Epoch, number: int, clock: Callable[[], float]) -> float:
    """Images a second of one epoch."""
    begin = clock()
    images = epoch(number)
    return images / (clock() - begin)


def pixel_difference(torchvision: Any, split: Split, size: int) -> str:
    """Over one crop of every image, the same for both: mean and largest difference, of 255."""
    functional = torchvision.transforms.functional
    total, largest = 0.0, 0
    for index in range(len(split)):
        image = read_rgb(split.path(index))
        box = random_resized_crop(image_random(0, 0, index), *image.size, (0.08, 1.0), (3 / 4, 4 / 3))
        mine = np.asarray(cut_out(image, box, size)).astype(int)
        theirs = functional.resized_crop(image, box.top, box.left, box.height, box.width, [size, size])
        difference = np.abs(mine - np.asarray(theirs))
        total += difference.mean()
        largest = max(largest, int(difference.max()))
    return f"pixels of the same crops, of 255: mean difference {total / len(split):.3f}, largest {largest}"


def compare(contenders: List[Contender], rounds: int, clock: Callable[[], float]) -> None:
    """Time them in turn and print; the first is what the others are compared with."""
    for contender in contenders:
        contender.epoch(0)
    speeds: Dict[str, List[float]] = {contender.name: [] for contender in contenders}
    for attempt in range(rounds):
        for contender in contenders:
            speeds[contender.name].append(speed(contender.epoch, 1 + attempt, clock))
    base = speeds[contenders[0].name]
    for name, values in speeds.items():
        ratios = sorted(value / reference for value, reference in zip(values, base))
        print(
            f"  {name:<38} {statistics.median(values):6.0f} images/s   ratio {statistics.median(ratios):.2f}"
            f" ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        )


def main() -> None:
    """For each number of workers, compare the pipelines; then their pixels."""
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
        raise UsageError(f"{split.folder} holds no class folders with images; give the folder that holds train's")
    times = -(-options.images // len(split))
    many = repeated(split, times)
    print(
        f"{len(split)} images {times} times, {options.image_size} pixels, batches of {options.batch_size},"
        f" {options.rounds} rounds; torch {torch.__version__}, torchvision {torchvision.__version__}"
    )
    for workers in options.workers:
        print(f"{workers} workers" if workers else "one core")
        contenders = [
            Contender("torchvision, float32", usual(torchvision, options, times, workers, True)),
            Contender("torchvision, uint8", usual(torchvision, options, times, workers, False)),
            Contender("ours, uint8", ours(options, many, workers, False)),
            Contender("ours, normalised in the main process", ours(options, many, workers, True)),
        ]
        compare(contenders, options.rounds, time.perf_counter if workers else time.process_time)
    print(pixel_difference(torchvision, split, options.image_size))


if __name__ == "__main__":
    main()
