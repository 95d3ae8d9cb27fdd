"""The input pipeline of this program as a contender, for `imagenet_shards.py` and `scaling/`; run.sh compares it.

A round is as many epochs as have about --images images. 0 workers measure one core, in its processor time.
"""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from pathlib import Path
from typing import Callable, Optional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.timing import Contender  # noqa: E402
from shared.cli.parser import Parser, number, whole_numbers  # noqa: E402
from shared.errors import UsageError  # noqa: E402
from shared.imagenet.split import Split  # noqa: E402
from shared.system.paths import expanded  # noqa: E402
from torch_imagenet.input_pipeline.jpeg_crop import JpegCropper, Unavailable, make_cropper  # noqa: E402
from torch_imagenet.input_pipeline.loader import Loading, TrainingInput  # noqa: E402
from torch_imagenet.input_pipeline.transforms import TrainTransform  # noqa: E402


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


def default_cropper() -> Optional[JpegCropper]:
    """What decodes without --decoder: the decoder `crop`, None for Pillow's where that cannot be had."""
    try:
        return make_cropper()
    except Unavailable:
        return None


def ours(split: Split, options: Namespace, workers: int, cropper: Optional[JpegCropper]) -> Contender:
    """This program's pipeline."""
    loading = Loading(workers, cropper=cropper)
    batches = TrainingInput(split, TrainTransform(options.image_size), options.batch_size, 0, loading)
    return rounds_of(lambda number: sum(len(batch.labels) for batch in batches.epoch(number)), len(split), options)
