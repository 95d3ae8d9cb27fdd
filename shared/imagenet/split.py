"""One split of ImageNet, train/ or val/: a folder per class, the images directly in it.

Which files are images is decided by their names, as torchvision's ImageFolder does it, and so are the labels and the
order; what is in them is seen when they are read, or by the mode check-data. Unlike ImageFolder, hidden files and
folders and whatever lies deeper are left out, and counted; but Tiny-ImageNet's class folders, whose images lie in a
folder `images` of theirs, are read as they are unpacked.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Iterator, List, Optional, Sequence, Tuple

import numpy as np

from shared.errors import DataError, UsageError
from shared.imagenet.download_cache import Remote
from shared.imagenet.reader import OPEN_SHARDS, Extent
from shared.rng import epoch_order
from shared.text import in_utf8, of_system, raw

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")

WHOLE = "whole"  # the order of an epoch that mixes all images
INNER = "images"
_UNSORTED = re.compile(r"ILSVRC2012_val_\d{8}\.JPEG\Z")
_THREADS = 8  # for folders on a network; on a local disk one would do
_GONE = -1  # the size of a link that leads nowhere: a bad image, to be met when it is read


@dataclass(frozen=True)
class LeftOut:
    """What a split's folder holds besides the images in class folders, as counts."""

    files: int = 0  # no image by name, hidden, or no plain file
    folders: int = 0  # hidden, or inside a class folder
    loose: int = 0  # images beside the class folders
    unsorted: int = 0  # those of them that are named as the validation set's archive names them

    def __add__(self, other: LeftOut) -> LeftOut:
        return LeftOut(
            self.files + other.files,
            self.folders + other.folders,
            self.loose + other.loose,
            self.unsorted + other.unsorted,
        )


@dataclass(frozen=True, eq=False)
class Split:
    """The images of one split, ordered by class and then by name. A few arrays and values: cheap to pickle.

    Here they are files in class folders; `imagenet_shards.ShardSplit` has them in tar shards.

    `folder` is the absolute path. Image i is of class `classes[labels[i]]`, labels int32 [images]; its file's name
    below the class folder is `names[offsets[i]:offsets[i + 1]]`, its bytes in the file system, offsets int64
    [images + 1]. `classes` is sorted, and may hold classes without images. `fingerprint` is the SHA-256 of relative
    names and sizes.
    """

    folder: str
    classes: Tuple[str, ...] = field(repr=False)
    labels: np.ndarray = field(repr=False)
    names: bytes = field(repr=False)
    offsets: np.ndarray = field(repr=False)
    left_out: LeftOut
    fingerprint: str

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        """Return class and file name, as in 'n01440764/n01440764_18.JPEG'. Raises IndexError."""
        return self.relative_name(index)

    def relative_name(self, index: int) -> str:
        """Return class and file name, wherever the image is. Raises IndexError."""
        return f"{self.classes[self.labels[index]]}/{self.file_name(index)}"

    def file_name(self, index: int) -> str:
        """Return the file's own name. Raises IndexError."""
        index = range(len(self))[index]
        return self.names[self.offsets[index] : self.offsets[index + 1]].decode("utf-8", "surrogateescape")

    def full_name(self, index: int) -> str:
        """Return the name of an image within the whole set. Raises IndexError."""
        return f"{self.subset}/{self.name(index)}"

    def path(self, index: int) -> str:
        """Return the absolute path of an image. Raises IndexError."""
        return os.path.join(self.folder, of_system(self.name(index)))

    @property
    def subset(self) -> str:
        """Which part of the set this is: 'train' or 'val'."""
        return os.path.basename(self.folder)

    @property
    def open_shards(self) -> int:
        """How many files a reader of this split should keep open."""
        return OPEN_SHARDS

    def extent(self, index: int) -> Extent:
        """Return where the bytes of an image are. Raises IndexError."""
        return Extent(self.path(index))

    @property
    def order(self) -> str:
        """Say in one word what besides seed and epoch decides the order of an epoch."""
        return WHOLE

    def ordered(self, order: str) -> Split:
        """Return the split with that `order`, as an interrupted run had it. Raises UsageError where it has it not."""
        if order == self.order:
            return self
        raise UsageError(
            "the run took its images from other shards or from a URL, in another order; give what it had with"
            " --data-path"
        )

    def epoch_order(self, seed: int, epoch: int) -> np.ndarray:
        """Return the order in which this zero-based epoch trains on the images, int64 [images], each once."""
        return epoch_order(seed, epoch, len(self))

    def ahead(self, batches: Sequence[np.ndarray]) -> List[Tuple[Remote, ...]]:
        """Return for each batch of image indices what should be fetched meanwhile: what the next ones need first."""
        return [()] * len(batches)

    def class_counts(self) -> np.ndarray:
        """Return the images of each class, int64 [classes]."""
        return np.bincount(self.labels, minlength=len(self.classes)).astype(np.int64)


def scan(folder: str) -> Split:
    """Read the split's folders and ask for the size of every file. Raises DataError where one cannot be read.

    Links to folders and files are followed; a link that leads nowhere counts as an image that is bad.
    """
    folder = os.path.abspath(folder)
    classes, left_out = class_folders(folder)
    digest = hashlib.sha256()
    counts, names = [], []
    lengths: List[int] = []
    with ThreadPoolExecutor(_THREADS) as threads:
        paths = [os.path.join(folder, of_system(name)) for name in classes]
        for name, (images, others) in zip(classes, threads.map(_images, paths)):
            encoded = [os.fsencode(image) for image, _ in images]
            prefix = raw(name) + b"/"
            for image, (_, size) in zip(encoded, images):
                digest.update(b"%b%b\0%d\n" % (prefix, image, size))
            counts.append(len(images))
            names.append(b"".join(encoded))
            lengths += map(len, encoded)
            left_out += others
    return Split(
        folder=folder,
        classes=classes,
        labels=np.repeat(np.arange(len(classes), dtype=np.int32), counts),
        names=b"".join(names),
        offsets=np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)]),
        left_out=left_out,
        fingerprint=digest.hexdigest(),
    )


def class_folders(folder: str) -> Tuple[Tuple[str, ...], LeftOut]:
    """Return the sorted names of the class folders, in UTF-8, and what else is beside them. Raises DataError."""
    classes = []
    files = folders = loose = unsorted = 0
    for entry in entries(folder):
        if is_folder(entry):
            if is_hidden(entry.name):
                folders += 1
            else:
                classes.append(in_utf8(entry.name))
        elif is_image(entry.name):
            loose += 1
            unsorted += bool(_UNSORTED.match(entry.name))
        else:
            files += 1
    return tuple(sorted(classes)), LeftOut(files, folders, loose, unsorted)


def entries(folder: str) -> Iterator[os.DirEntry[str]]:
    """What is in a folder, in no order. Raises DataError where it cannot be read."""
    try:
        with os.scandir(folder) as found:
            yield from found
    except OSError as error:
        raise DataError(
            f"cannot read {folder} ({error.strerror or error}); check the disk and the permissions"
        ) from error


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether this is a folder or a link to one; a link that leads in a circle is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def is_hidden(name: str) -> bool:
    """Whether a system has put this there, and nobody means it: macOS `._NAME`, `.DS_Store`, `__MACOSX`, a NAS's."""
    return name.startswith(".") or name in ("__MACOSX", "@eaDir")


def is_image(name: str) -> bool:
    """Whether a file of this name is taken for an image."""
    return not is_hidden(name) and os.path.splitext(name)[1].lower() in EXTENSIONS


def _images(folder: str) -> Tuple[List[Tuple[str, int]], LeftOut]:
    """Return the names and sizes of the images in a class folder, sorted by name, and what else is in it."""
    images, left_out, has_inner = _images_in(folder)
    if images or not has_inner:
        return images, left_out
    inner, others, _ = _images_in(os.path.join(folder, INNER))
    images = [(f"{INNER}/{name}", size) for name, size in inner]
    return images, left_out + others + LeftOut(folders=-1 if images else 0)


def _images_in(folder: str) -> Tuple[List[Tuple[str, int]], LeftOut, bool]:
    """What is directly in a folder, and whether one called `images` is."""
    images = []
    files = folders = 0
    has_inner = False
    for entry in entries(folder):
        if is_folder(entry):
            folders += 1
            has_inner = has_inner or entry.name == INNER
        else:
            size = _size(entry) if is_image(entry.name) else None
            if size is None:
                files += 1
            else:
                images.append((entry.name, size))
    return sorted(images, key=lambda image: in_utf8(image[0])), LeftOut(files, folders), has_inner


def _size(entry: os.DirEntry[str]) -> Optional[int]:
    """Return the bytes of a file, or None for a pipe or a device, for which a reader might wait for ever."""
    try:
        status = entry.stat()
    except OSError:
        return _GONE
    return status.st_size if stat.S_ISREG(status.st_mode) else None
