"""The first start on ImageNet, which lists every file, against the later ones, which ask for the folders' times alone.

    python benchmarks/imagenet_index.py [--train-images 1281167] [--val-images 50000] [--classes 1000] [--rounds 5]

Makes that many empty files below --folder (default: the system's temporary folder), measures `imagenet.load` in fresh
processes, from the start of Python to its end, prints the median and range of each and the ratio, and removes the files
again. What the operating system has read once it keeps in memory: on a cold disk or a network the first start is slower
still.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import List

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from shared.cli.arguments import Parser, number  # noqa: E402
from shared.system.paths import expanded  # noqa: E402

LOAD = """
import sys
from shared import imagenet
data = imagenet.load(sys.argv[1], cache=sys.argv[2])
print(len(data.train) + len(data.val), data.fingerprint)
"""


def make_split(folder: Path, classes: int, images: int) -> None:
    """Spread empty files over class folders, named about as long as the official ones."""
    for label in range(classes):
        target = folder / f"n{label:08d}"
        target.mkdir(parents=True)
        directory = os.open(str(target), os.O_RDONLY)
        for index in range(label, images, classes):
            os.close(os.open(f"n{label:08d}_{index:07d}.JPEG", os.O_CREAT | os.O_WRONLY, dir_fd=directory))
        os.close(directory)


def seconds(data: Path, cache: Path, expected: int) -> float:
    """Load in a fresh process and return the wall time."""
    started = time.perf_counter()
    command = [sys.executable, "-c", LOAD, str(data), str(cache)]
    output = subprocess.run(command, cwd=str(ROOT), check=True, stdout=subprocess.PIPE, universal_newlines=True).stdout
    elapsed = time.perf_counter() - started
    if int(output.split()[0]) != expected:
        raise AssertionError(f"{output.split()[0]} images, not {expected}")
    return elapsed


def described(values: List[float]) -> str:
    return f"median {statistics.median(values):.2f} s, {min(values):.2f} to {max(values):.2f} s"


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--train-images", type=number(int, 1), default=1281167)
    parser.add_argument("--val-images", type=number(int, 1), default=50000)
    parser.add_argument("--classes", type=number(int, 1), default=1000)
    parser.add_argument("--rounds", type=number(int, 1), default=5)
    parser.add_argument("--folder", type=expanded)
    options = parser.parse_args()
    workshop = Path(tempfile.mkdtemp(prefix="imagenet-index-", dir=options.folder))
    try:
        make_split(workshop / "data" / "train", options.classes, options.train_images)
        make_split(workshop / "data" / "val", options.classes, options.val_images)
        time.sleep(3)  # an index of folders that have just changed is not kept
        total = options.train_images + options.val_images
        first, later = [], []
        for attempt in range(options.rounds):
            cache = workshop / f"cache-{attempt}"
            first.append(seconds(workshop / "data", cache, total))
            later.append(seconds(workshop / "data", cache, total))
        size = sum(path.stat().st_size for path in cache.glob("*/*/*"))
        ratios = [slow / quick for slow, quick in zip(first, later)]
        index = f"index {size / 2**20:.1f} MiB"
        print(f"{total:,} files in 2 x {options.classes:,} folders, {index}, {options.rounds} rounds")
        print(f"first start: {described(first)}")
        print(f"later starts: {described(later)}")
        print(f"ratio: median {statistics.median(ratios):.1f}, {min(ratios):.1f} to {max(ratios):.1f}")
    finally:
        shutil.rmtree(str(workshop))


if __name__ == "__main__":
    main()
