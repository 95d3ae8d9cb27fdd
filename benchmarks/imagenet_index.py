"""The first start on ImageNet, which lists every file, against later ones, which check the times of the folders alone.

    python benchmarks/imagenet_index.py [--train-images 1281167] [--val-images 50000] [--classes 1000] [--rounds 5]

Creates empty files below --folder (default: the system's temporary folder), times `imagenet.load` in new processes,
from the start of Python to its end, and removes the files. The folders are in the page cache: on a cold disk or a
network file system the first start is slower still.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.timing import measure, report  # noqa: E402
from shared.cli.arguments import Parser, number  # noqa: E402
from shared.system.paths import expanded  # noqa: E402

LOAD = """
import sys
from shared import imagenet
data = imagenet.load(sys.argv[1], cache=sys.argv[2])
print(len(data.train) + len(data.val))
"""


def make_split(folder: Path, classes: int, images: int) -> None:
    """Create empty files in class folders, with names as long as the official ones."""
    for label in range(classes):
        target = folder / f"n{label:08d}"
        target.mkdir(parents=True)
        for index in range(label, images, classes):
            (target / f"n{label:08d}_{index:07d}.JPEG").touch()


def load(data: Path, cache: Path) -> int:
    """Load in a new process; the number of images that it found."""
    command = [sys.executable, "-c", LOAD, str(data), str(cache)]
    return int(subprocess.run(command, cwd=str(ROOT), check=True, stdout=subprocess.PIPE).stdout)


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--train-images", type=number(int, 1), default=1281167)
    parser.add_argument("--val-images", type=number(int, 1), default=50000)
    parser.add_argument("--classes", type=number(int, 1), default=1000)
    parser.add_argument("--rounds", type=number(int, 1), default=5)
    parser.add_argument("--folder", type=expanded)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="imagenet-index-", dir=options.folder) as name:
        data, cache = Path(name) / "data", Path(name) / "cache"
        make_split(data / "train", options.classes, options.train_images)
        make_split(data / "val", options.classes, options.val_images)
        time.sleep(3)  # folders that have just changed are not indexed
        starts = {
            "first start": lambda attempt: load(data, cache / f"{attempt}"),
            "later start": lambda attempt: load(data, cache / "0"),  # which the warm-up has written
        }
        rows = measure(starts, options.rounds)
        total = options.train_images + options.val_images
        assert load(data, cache / "0") == total
        size = sum(path.stat().st_size for path in (cache / "0").glob("*/*/*"))
        print(f"{total:,} files in 2 x {options.classes:,} folders, index {size / 2**20:.1f} MiB")
        print(report(rows), end="")


if __name__ == "__main__":
    main()
