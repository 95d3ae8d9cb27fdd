"""torchvision's ImageNet input pipeline against that of this program, alternating in one process.

    python benchmarks/imagenet_input.py --data-path FOLDER [--workers 0,2] [--batch-size 64] [--rounds 5]

FOLDER holds one folder of images per class, like train/ of ImageNet. torchvision's pipeline is ImageFolder,
RandomResizedCrop, RandomHorizontalFlip, ToTensor, Normalize, and a DataLoader that collates float32 images. This
program's makes uint8 batches, which are normalised on the device. Each is therefore measured twice: with normalisation
on the CPU and without; this program's also with Pillow as its decoder. 0 workers measure one core, in its processor
time. A round is as many epochs of each as have about --images images. Needs torchvision and a C compiler.
"""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from pathlib import Path
from typing import Any, Callable, Dict, Optional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

from benchmarks.timing import Contender, measure, report  # noqa: E402
from benchmarks.torchvision_import import import_torchvision  # noqa: E402
from shared.cli.parser import Parser, number, whole_numbers  # noqa: E402
from shared.errors import UsageError  # noqa: E402
from shared.imagenet.split import Split, scan  # noqa: E402
from shared.system.paths import expanded  # noqa: E402
from torch_imagenet.input_pipeline.jpeg_crop import JpegCropper, make_cropper  # noqa: E402
from torch_imagenet.input_pipeline.loader import Loading, TrainingInput  # noqa: E402
from torch_imagenet.input_pipeline.transforms import TrainTransform  # noqa: E402
from torch_imagenet.step.to_device import Normalisation  # noqa: E402

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def input_parser(description: str, rounds: int, images: int) -> Parser:
    """The options of every benchmark of input pipelines."""
    parser = Parser(description=description)
    parser.add_argument("--data-path", type=expanded, required=True)
    parser.add_argument("--workers", type=whole_numbers, default=(0, 2))
    parser.add_argument("--batch-size", type=number(int, 1), default=64)
    parser.add_argument("--image-size", type=number(int, 32), default=224)
    round_images = {"dest": "round_images", "default": images, "help": "of a round, at least"}
    parser.add_argument("--images", type=number(int, 1), **round_images)  # `images` are those of the mode predict
    parser.add_argument("--rounds", type=number(int, 1), default=rounds)
    return parser


def clock(workers: int) -> Callable[[], float]:
    """Processor time where this process does the work itself: other programs hardly count."""
    return time.perf_counter if workers else time.process_time


def rounds_of(epoch: Callable[[int], int], images: int, options: Namespace) -> Contender:
    """Rounds of as many epochs as give --images, of a data set with this number of `images`.

    `epoch` runs the zero-based epoch and returns its number of images.
    """
    if images < options.batch_size:
        raise UsageError(f"{options.data_path} has {images} images in class folders, fewer than a batch; give more")
    times = -(-options.round_images // (images // options.batch_size * options.batch_size))
    return lambda attempt: sum(epoch(attempt * times + at) for at in range(times))


def ours(
    split: Split,
    options: Namespace,
    workers: int,
    prepare: Callable[[torch.Tensor], Any] = len,
    cropper: Optional[JpegCropper] = None,
) -> Contender:
    """This program's pipeline; `prepare` is what the main process does with the images of a batch.

    `cropper` decodes the JPEGs; None: Pillow does.
    """
    loading = Loading(workers, cropper=cropper)
    batches = TrainingInput(split, TrainTransform(options.image_size), options.batch_size, 0, loading)

    def epoch(number: int) -> int:
        images = 0
        for batch in batches.epoch(number):
            prepare(batch.images)
            images += len(batch.labels)
        return images

    return rounds_of(epoch, len(split), options)


def torchvisions(torchvision: Any, options: Namespace, workers: int, normalised: bool) -> Contender:
    """torchvision's pipeline; without `normalised` it ends with uint8 tensors."""
    transforms = torchvision.transforms
    last = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)] if normalised else [transforms.PILToTensor()]
    crop = [transforms.RandomResizedCrop(options.image_size), transforms.RandomHorizontalFlip()]
    folder = torchvision.datasets.ImageFolder(options.data_path, transforms.Compose(crop + last))
    loader: Any = DataLoader(
        folder, options.batch_size, shuffle=True, num_workers=workers, drop_last=True, persistent_workers=workers > 0
    )
    return rounds_of(lambda _: sum(len(labels) for _, labels in loader), len(folder), options)


def contenders(torchvision: Any, split: Split, options: Namespace, workers: int) -> Dict[str, Contender]:
    """By name; the first is torchvision's. Raises jpeg_crop.Unavailable where there is no C compiler."""
    normalise = Normalisation(MEAN, STD, torch.device("cpu"), torch.float32, channels_last=True)
    cropper = make_cropper()
    return {
        "torchvision, float32": torchvisions(torchvision, options, workers, True),
        "torchvision, uint8": torchvisions(torchvision, options, workers, False),
        "ours by Pillow, uint8": ours(split, options, workers),
        "ours, uint8": ours(split, options, workers, cropper=cropper),
        "ours, normalised in the main process": ours(split, options, workers, normalise, cropper),
    }


def main() -> None:
    """Compare the speed of the pipelines for each number of workers."""
    options = input_parser(__doc__ or "", rounds=5, images=1280).parse_args()
    torch.set_num_threads(1)
    torchvision = import_torchvision()
    split = scan(options.data_path)
    print(f"{len(split)} images; torch {torch.__version__}, torchvision {torchvision.__version__}")
    for workers in options.workers:
        print(f"{workers} workers" if workers else "one core")
        rows = measure(contenders(torchvision, split, options, workers), options.rounds, clock=clock(workers))
        print(report(rows), end="")


if __name__ == "__main__":
    main()
