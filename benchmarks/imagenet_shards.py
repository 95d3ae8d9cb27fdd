"""The input pipeline on class folders against the same images in tar shards, alternating in one process.

    python benchmarks/imagenet_shards.py --data-path FOLDER [--workers 0,2] [--batch-size 64] [--rounds 7]

FOLDER holds train/ and val/. Their shards are written into --folder (default: the system's temporary folder) and
removed afterwards. A round times one epoch of each; 0 workers measure one core. Prints the medians over the rounds and
the median and range of the ratio to the folders in the same round; then the same for reading without decoding. The
files are in the page cache: on a cold disk, and above all on a network file system, shards gain more.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from benchmarks.timing import Epoch, compare_epochs  # noqa: E402
from shared import imagenet  # noqa: E402
from shared.cli.arguments import Parser, number, whole_numbers  # noqa: E402
from shared.imagenet.extent_reader import ExtentReader  # noqa: E402
from shared.imagenet.shards.write import write_shards  # noqa: E402
from shared.imagenet.split import Split  # noqa: E402
from shared.system.paths import expanded  # noqa: E402
from torch_imagenet.input_pipeline.loader import Loading, TrainingInput  # noqa: E402
from torch_imagenet.input_pipeline.transforms import TrainTransform  # noqa: E402


def pipeline(split: Split, options: Any, workers: int) -> Epoch:
    """Batches of training images."""
    batches = TrainingInput(split, TrainTransform(options.image_size), options.batch_size, 0, Loading(workers))
    return lambda epoch: sum(len(batch.labels) for batch in batches.epoch(epoch))


def reading(split: Split) -> Epoch:
    """The bytes of every image in the order of an epoch, not decoded."""
    reader = ExtentReader()

    def epoch(number: int) -> int:
        for index in split.epoch_order(0, number).tolist():
            reader.read(split.extent(index))
        return len(split)

    return epoch


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
    scratch = Path(tempfile.mkdtemp(prefix="imagenet-shards-", dir=options.folder))
    try:
        data = imagenet.load(options.data_path)
        assert data.train is not None
        begin = time.perf_counter()
        write_shards(data.name, (data.train, data.val), scratch / "shards", options.shard_size * 2**20, print)
        seconds = time.perf_counter() - begin
        size = sum(path.stat().st_size for path in (scratch / "shards").iterdir()) / 2**20
        print(f"written in {seconds:.1f} s, {size / seconds:.0f} MiB/s, with SHA-256 and fsync")
        shards = imagenet.load(scratch / "shards").train
        assert shards is not None
        for workers in options.workers:
            print(f"{workers} workers" if workers else "one core")
            contenders = {
                name: pipeline(split, options, workers) for name, split in (("folders", data.train), ("shards", shards))
            }
            print("\n".join(compare_epochs(contenders, workers, options.rounds)))
        print("reading alone, one core")
        contenders = {"folders": reading(data.train), "shards": reading(shards)}
        print("\n".join(compare_epochs(contenders, 0, options.rounds)))
    finally:
        shutil.rmtree(str(scratch))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
