"""JPEG files of the sizes of ImageNet for benchmarks without a data set, the same on every machine.

python benchmarks/images.py FOLDER [IMAGES OF EACH SPLIT]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Tuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np  # noqa: E402

from shared.errors import UsageError  # noqa: E402

SIZES = ((500, 375), (375, 500), (500, 333), (500, 500), (640, 480), (400, 300))  # ImageNet's usual ones, in pixels
CLASSES, QUALITY = 8, 90
SPLITS = {"train": 160, "val": 64}  # images


def picture(random: np.random.RandomState, width: int, height: int) -> np.ndarray:
    """Patterns of several sizes that add up as in photographs (1/f), with a little noise: uint8 [height, width, 3]."""
    from PIL import Image

    total = np.zeros((height, width, 3), np.float32)
    for cells in (3, 8, 20, 50, 120):
        coarse = Image.fromarray(random.randint(0, 256, (cells, cells, 3)).astype(np.uint8))
        total += (
            (np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.float32) - 128) * 2 / cells**0.5
        )
    noise = random.standard_normal(total.shape).astype(np.float32) * 11
    return np.clip(total + noise + 128, 0, 255).astype(np.uint8)


def write_images(folder: Path, per_split: int = 0) -> None:
    """Write train/ and val/ with a folder per class; `per_split` images each in place of `SPLITS`. Raises OSError."""
    from PIL import Image

    random = np.random.RandomState(0)
    for split, images in SPLITS.items():
        for number in range(per_split or images):
            width, height = SIZES[number % len(SIZES)]
            path = folder / split / f"class{number % CLASSES}" / f"{number:04d}.JPEG"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture(random, width, height)).save(path, quality=QUALITY, subsampling="4:2:0")


def splits_of(folder: Path) -> Tuple[Path, Path]:
    """The folders of training and evaluation images: train/ and val/, or the folder itself as both.

    Raises UsageError where it has no folder of images.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder; give one with train/ and val/, or one with a folder per class")
    found = folder / "train", folder / "val"
    if found[0].is_dir():
        return found if found[1].is_dir() else (found[0], found[0])
    if not any(entry.is_dir() for entry in folder.iterdir()):
        raise UsageError(
            f"{folder} has no folder of images; give one with train/ and val/, or one with a folder per class"
        )
    return folder, folder


def data_set_of(train: Path, val: Path, folder: Path) -> Path:
    """Make `folder` a data set whose train/ and val/ are these."""
    folder.mkdir()
    (folder / "train").symlink_to(train.resolve(), target_is_directory=True)
    (folder / "val").symlink_to(val.resolve(), target_is_directory=True)
    return folder


if __name__ == "__main__":
    write_images(Path(sys.argv[1]), *map(int, sys.argv[2:3]))
