"""The input pipeline on class folders against the same images in tar shards, alternating in one process.

    python benchmarks/imagenet_shards.py --data-path FOLDER [--workers 0,2] [--batch-size 64] [--rounds 7]

FOLDER holds train/ and val/. Their shards are written into --folder (default: the system's temporary folder) and
removed afterwards. A round times one epoch of each; 0 workers measure one core, in its processor time. Then the same
for reading without decoding. The files are in the page cache: on a cold disk, and above all on a network file system,
shards gain more.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch  # noqa: E402

from benchmarks.imagenet_input import clock, default_cropper, input_parser, ours  # noqa: E402
from benchmarks.timing import Contender, measure, report  # noqa: E402
from shared import imagenet  # noqa: E402
from shared.cli.parser import number  # noqa: E402
from shared.imagenet.extent_reader import ExtentReader  # noqa: E402
from shared.imagenet.shards.write import write_shards  # noqa: E402
from shared.imagenet.split import Split  # noqa: E402
from shared.system.paths import expanded  # noqa: E402


def reading(split: Split) -> Contender:
    """The bytes of every image in the order of an epoch, not decoded."""
    reader = ExtentReader()

    def epoch(number: int) -> int:
        for index in split.epoch_order(0, number).tolist():
            reader.read(split.extent(index))
        return len(split)

    return epoch


def main() -> None:
    """Write the shards, compare, remove them."""
    parser = input_parser(__doc__ or "", rounds=7, images=1)
    parser.add_argument("--shard-size", type=number(int, 1), default=16, metavar="MIB")
    parser.add_argument("--folder", type=expanded)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="imagenet-shards-", dir=options.folder) as scratch:
        folder = Path(scratch) / "shards"
        data = imagenet.load(options.data_path)
        begin = time.perf_counter()
        write_shards(data.name, (data.train, data.val), folder, options.shard_size * 2**20, print)
        seconds = time.perf_counter() - begin
        size = sum(path.stat().st_size for path in folder.iterdir()) / 2**20
        print(f"written in {seconds:.1f} s, {size / seconds:.0f} MiB/s, with SHA-256 and fsync")
        splits = {"folders": data.train, "shards": imagenet.load(folder).train}
        cropper = default_cropper()
        print(f"decoder: {'crop' if cropper else 'pillow'}")
        for workers in options.workers:
            print(f"{workers} workers" if workers else "one core")
            contenders = {name: ours(split, options, workers, cropper) for name, split in splits.items()}
            print(report(measure(contenders, options.rounds, clock=clock(workers))), end="")
        print("reading alone, one core")
        contenders = {name: reading(split) for name, split in splits.items()}
        print(report(measure(contenders, options.rounds, clock=clock(0))), end="")


if __name__ == "__main__":
    main()
