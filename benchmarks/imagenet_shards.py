"""The same images from class folders and from tar shards through the same input pipeline, interleaved in one process.

    python benchmarks/imagenet_shards.py --data-path FOLDER [--workers 0,2] [--batch-size 64] [--rounds 7]

FOLDER holds train/ and val/, which are written as shards into --folder (default: the system's temporary folder) and
removed again. A round times one epoch of each, in turn first; 0 workers means one core, timed by the processor's
clock, so that other programs hardly count. Printed are medians over the rounds, and the median and range of the ratio
to the folders in the same round; then the same for reading alone, without decoding. What the operating system has read
once it keeps in memory: on a cold disk, and on a network file system above all, opening 1.28 million files costs more.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, List

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from shared import imagenet  # noqa: E402
from shared.cli.arguments import Parser, number, whole_numbers  # noqa: E402
from shared.imagenet.reader import ExtentReader  # noqa: E402
from shared.imagenet.shards.write import write_shards  # noqa: E402
from shared.imagenet.split import Split  # noqa: E402
from shared.system.paths import expanded  # noqa: E402
from torch_imagenet.input_pipeline.loader import TrainingInput  # noqa: E402
from torch_imagenet.input_pipeline.transforms import TrainTransform  # noqa: E402

Epoch = Callable[[int], int]  # zero-based epoch -> images seen


def pipeline(split: Split, options: Any, workers: int) -> Epoch:
    """An epoch of training images."""
    batches = TrainingInput(split, TrainTransform(options.image_size), options.batch_size, 0, workers)
    return lambda epoch: sum(len(batch.labels) for batch in batches.epoch(epoch))


def reading(split: Split) -> Epoch:
    """The bytes of every image, in the order of an epoch."""
    reader = ExtentReader()

    def epoch(number: int) -> int:
        for index in split.epoch_order(0, number).tolist():
            reader.read(split.extent(index))
        return len(split)

    return epoch


def compare(contenders: Dict[str, Epoch], rounds: int, clock: Callable[[], float]) -> None:
    """Time them in turn and print; the first is what the others are compared with."""
    for epoch in contenders.values():
        epoch(0)
    speeds: Dict[str, List[float]] = {name: [] for name in contenders}
    for attempt in range(rounds):
        for name in list(contenders)[:: 1 if attempt % 2 else -1]:
            begin = clock()
            images = contenders[name](1 + attempt)
            speeds[name].append(images / (clock() - begin))
    base = speeds[next(iter(contenders))]
    for name, values in speeds.items():
        ratios = sorted(value / reference for value, reference in zip(values, base))
        print(
            f"  {name:<10} {statistics.median(values):8.0f} images/s   ratio {statistics.median(ratios):.3f}"
            f" ({ratios[0]:.3f} to {ratios[-1]:.3f})"
        )


def main() -> None:
    """Write the shards, compare, remove them."""
    parser = Parser(description=__doc__)
    parser.add_argument("--data-path", type=expanded, required=True)
    parser.add_argument("--workers", type=whole_numbers, default=(0, 2))
    parser.add_argument("--batch-size", type=number(int, 1), default=64)
    parser.add_argument("--image-size", type=number(int, 32), default=224)
    parser.add_argument("--shard-size", type=number(int, 1), default=16, metavar="MIB")
    parser.add_argument("--rounds", type=number(int, 1), default=7)
    parser.add_argument("--folder", type=expanded)
    options = parser.parse_args()
    torch.set_num_threads(1)
    workshop = Path(tempfile.mkdtemp(prefix="imagenet-shards-", dir=options.folder))
    try:
        data = imagenet.load(options.data_path)
        assert data.train is not None
        begin = time.perf_counter()
        write_shards(data.name, (data.train, data.val), workshop / "shards", options.shard_size * 2**20, print)
        seconds = time.perf_counter() - begin
        size = sum(path.stat().st_size for path in (workshop / "shards").iterdir()) / 2**20
        print(f"written in {seconds:.1f} s, {size / seconds:.0f} MiB/s, with SHA-256 and fsync")
        shards = imagenet.load(workshop / "shards").train
        assert shards is not None
        for workers in options.workers:
            print(f"{workers} workers" if workers else "one core")
            contenders = {
                name: pipeline(split, options, workers) for name, split in (("folders", data.train), ("shards", shards))
            }
            compare(contenders, options.rounds, time.perf_counter if workers else time.process_time)
        print("reading alone, one core")
        compare({"folders": reading(data.train), "shards": reading(shards)}, options.rounds, time.process_time)
    finally:
        shutil.rmtree(str(workshop))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
