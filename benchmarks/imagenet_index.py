"""The first start on ImageNet, which lists every file, against later ones, which check the times of the folders alone.

    python benchmarks/imagenet_index.py [--train-images 1281167] [--val-images 50000] [--classes 1000] [--rounds 5]

Creates empty files below --folder (default: the system's temporary folder), times `imagenet.load` in new processes,
from the start of Python to its end, prints the median and range of each and of the ratio, and removes the files. The
folders are in the page cache: on a cold disk or a network file system the first start is slower still.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.timing import median_and_range  # noqa: E402
from shared.cli.arguments import Parser, number  # noqa: E402
from shared.system.paths import expanded  # noqa: E402

LOAD = """
import sys
from shared import imagenet
data = imagenet.load(sys.argv[1], cache=sys.argv[2])
print(len(data.train) + len(data.val), data.fingerprint)
"""


def make_split(folder: Path, classes: int, images: int) -> None:
    """Create empty files in class folders, with names as long as the official ones."""
    for label in range(classes):
        target = folder / f"n{label:08d}"
        target.mkdir(parents=True)
        directory = os.open(str(target), os.O_RDONLY)
        for index in range(label, images, classes):
            os.close(os.open(f"n{label:08d}_{index:07d}.JPEG", os.O_CREAT | os.O_WRONLY, dir_fd=directory))
        os.close(directory)


def seconds(data: Path, cache: Path, expected: int) -> float:
    """The wall time of loading in a new process."""
    started = time.perf_counter()
    command = [sys.executable, "-c", LOAD, str(data), str(cache)]
    output = subprocess.run(command, cwd=str(ROOT), check=True, stdout=subprocess.PIPE, universal_newlines=True).stdout
    elapsed = time.perf_counter() - started
    if int(output.split()[0]) != expected:
        raise AssertionError(f"{output.split()[0]} images, not {expected}")
    return elapsed


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--train-images", type=number(int, 1), default=1281167)
    parser.add_argument("--val-images", type=number(int, 1), default=50000)
    parser.add_argument("--classes", type=number(int, 1), default=1000)
    parser.add_argument("--rounds", type=number(int, 1), default=5)
    parser.add_argument("--folder", type=expanded)
    options = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="imagenet-index-", dir=options.folder))
    try:
        make_split(scratch / "data" / "train", options.classes, options.train_images)
        make_split(scratch / "data" / "val", options.classes, options.val_images)
        time.sleep(3)  # folders that have just changed are not indexed
        total = options.train_images + options.val_images
        first, later = [], []
        for attempt in range(options.rounds):
            cache = scratch / f"cache-{attempt}"
            first.append(seconds(scratch / "data", cache, total))
            later.append(seconds(scratch / "data", cache, total))
        size = sum(path.stat().st_size for path in cache.glob("*/*/*"))
        ratios = [slow / quick for slow, quick in zip(first, later)]
        index = f"index {size / 2**20:.1f} MiB"
        print(f"{total:,} files in 2 x {options.classes:,} folders, {index}, {options.rounds} rounds")
        print(f"first start: {median_and_range(first)} s")
        print(f"later starts: {median_and_range(later)} s")
        print(f"ratio: {median_and_range(ratios, 1)}")
    finally:
        shutil.rmtree(str(scratch))


if __name__ == "__main__":
    main()
