"""One split of ImageNet, train/ or val/: a folder per class, the images directly in it.

File names decide which files are images, their labels and their order, as in torchvision's ImageFolder; but hidden
files, hidden folders and deeper levels are left out, and counted. Class folders of Tiny-ImageNet, which have their
images in a sub-folder `images`, are accepted.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from shared.errors import UsageError
from shared.imagenet.decode import FORMATS
from shared.imagenet.download_cache import Remote
from shared.imagenet.extent_reader import OPEN_SHARDS, Extent
from shared.rng import epoch_order
from shared.system.paths import reading
from shared.text import in_utf8, of_system, raw

WHOLE = "whole"  # the order of an epoch that shuffles all images together
INNER = "images"
_UNSORTED = re.compile(r"ILSVRC2012_val_\d{8}\.JPEG\Z")
_THREADS = 8  # for network file systems; one is enough for a local disk
_GONE = -1  # the size of a broken link, which is a bad image when it is read


class LeftOut(NamedTuple):
    """How many files and folders of a split are not among its images."""

    files: int = 0  # not named as images, hidden, or not regular files
    folders: int = 0  # hidden, or inside a class folder
    loose: int = 0  # images outside class folders
    unsorted: int = 0  # those of them named as in the official validation archive


@dataclass(frozen=True, eq=False)
class Split:
    """The images of one split as files in class folders, ordered by class and then by name.

    Image i has class `classes[labels[i]]`; its file name below the class folder is `names[offsets[i]:offsets[i + 1]]`.
    """

    folder: str  # the absolute path
    classes: Tuple[str, ...] = field(repr=False)  # sorted; some may be without images
    labels: np.ndarray = field(repr=False)  # int32 [images]
    names: bytes = field(repr=False)  # in the bytes of the file system
    offsets: np.ndarray = field(repr=False)  # int64 [images + 1]
    left_out: LeftOut
    fingerprint: str  # the SHA-256 of relative names and sizes

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        """The name of an image as it is stored, as in 'n01440764/n01440764_18.JPEG'. Raises IndexError."""
        return self.relative_name(index)

    def relative_name(self, index: int) -> str:
        """Class and file name of an image, however it is stored."""
        return f"{self.classes[self.labels[index]]}/{self.file_name(index)}"

    def file_name(self, index: int) -> str:
        """The file name of an image without its class."""
        index = range(len(self))[index]
        return self.names[self.offsets[index] : self.offsets[index + 1]].decode("utf-8", "surrogateescape")

    def full_name(self, index: int) -> str:
        """The name of an image within the data set."""
        return f"{self.subset}/{self.name(index)}"

    def path(self, index: int) -> str:
        """The absolute path of an image."""
        return os.path.join(self.folder, of_system(self.name(index)))

    @property
    def subset(self) -> str:
        """'train' or 'val'."""
        return os.path.basename(self.folder)

    @property
    def open_shards(self) -> int:
        """The number of files that a reader of this split should keep open."""
        return OPEN_SHARDS

    def extent(self, index: int) -> Extent:
        """The location of the bytes of an image."""
        return Extent(self.path(index))

    @property
    def order(self) -> str:
        """What the order of an epoch depends on besides seed and epoch, in one word."""
        return WHOLE

    def ordered(self, order: str) -> Split:
        """Return the split with the `order` of an interrupted run. Raises UsageError if it cannot have it."""
        if order != self.order:
            what = "the run took its images from other shards or from a URL, in another order"
            raise UsageError(f"{what}; give what it had with --data-path")
        return self

    def epoch_order(self, seed: int, epoch: int) -> np.ndarray:
        """A permutation of the images for training in this zero-based epoch, int64 [images]."""
        return epoch_order(seed, epoch, len(self))

    def ahead(self, batches: Sequence[np.ndarray]) -> List[Tuple[Remote, ...]]:
        """For each batch of image indices, the remote files to fetch meanwhile, in the order of their first use."""
        return [()] * len(batches)

    def class_counts(self) -> np.ndarray:
        """The number of images of each class, int64 [classes]."""
        return np.bincount(self.labels, minlength=len(self.classes)).astype(np.int64)


def read_arrays(content: bytes, names: Iterable[str]) -> Dict[str, np.ndarray]:
    """Return the named arrays of a .npz file. Raises ValueError where one is missing or the file is damaged."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            return {name: file[name] for name in names}
    except Exception as error:  # NumPy and zipfile raise some ten kinds at damaged files
        raise ValueError("no array file") from error


def listing(counts: np.ndarray, names: bytes, lengths: np.ndarray) -> Dict[str, Any]:
    """The fields of a `Split` for the number of images of each class, and for all names with their lengths."""
    return {
        "labels": np.repeat(np.arange(len(counts), dtype=np.int32), counts),
        "names": names,
        "offsets": np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)]),
    }


def scan(folder: str) -> Split:
    """List the split with the sizes of all files. Links are followed; a broken one is an image. Raises DataError."""
    folder = os.path.abspath(folder)
    classes, left_out = class_folders(folder)
    digest = hashlib.sha256()
    counts: List[int] = []
    names: List[bytes] = []
    with ThreadPoolExecutor(_THREADS) as threads:
        paths = [os.path.join(folder, of_system(name)) for name in classes]
        for name, (images, files, folders) in zip(classes, threads.map(_images, paths)):
            for image, size in images:
                names.append(os.fsencode(image))
                digest.update(b"%b/%b\0%d\n" % (raw(name), names[-1], size))
            counts.append(len(images))
            left_out = left_out._replace(files=left_out.files + files, folders=left_out.folders + folders)
    fields = listing(np.array(counts, np.int64), b"".join(names), np.array([len(name) for name in names], np.int64))
    return Split(folder=folder, classes=classes, left_out=left_out, fingerprint=digest.hexdigest(), **fields)


def class_folders(folder: str) -> Tuple[Tuple[str, ...], LeftOut]:
    """Return the sorted names of the class folders, in UTF-8, and the counts of what is left out. Raises DataError."""
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
    """Yield the entries of a folder, unordered. Raises DataError if it cannot be read."""
    with reading(folder, "check the disk and the permissions"), os.scandir(folder) as found:
        yield from found


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether this is a folder or a link to one; a circular link is not."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def is_hidden(name: str) -> bool:
    """Whether this is a file or folder of a system: macOS `._NAME`, `.DS_Store`, `__MACOSX`, Synology `@eaDir`."""
    return name.startswith(".") or name in ("__MACOSX", "@eaDir")


def is_image(name: str) -> bool:
    """Whether a file of this name is an image."""
    return not is_hidden(name) and os.path.splitext(name)[1].lower() in FORMATS


def _images(folder: str, look_deeper: bool = True) -> Tuple[List[Tuple[str, int]], int, int]:
    """The names and sizes of the images of a class folder, sorted by name; how many files and folders are left out."""
    images, files, folders = [], 0, []
    for entry in entries(folder):
        if is_folder(entry):
            folders.append(entry.name)
            continue
        size = _size(entry) if is_image(entry.name) else None
        if size is None:
            files += 1
        else:
            images.append((entry.name, size))
    images.sort(key=lambda image: in_utf8(image[0]))
    if images or not look_deeper or INNER not in folders:
        return images, files, len(folders)
    inner, more_files, more_folders = _images(os.path.join(folder, INNER), look_deeper=False)
    images = [(f"{INNER}/{name}", size) for name, size in inner]
    return images, files + more_files, len(folders) + more_folders - bool(images)


def _size(entry: os.DirEntry[str]) -> Optional[int]:
    """The size of a file in bytes; None for a pipe or a device, on which a reader might wait for ever."""
    try:
        status = entry.stat()
    except OSError:
        return _GONE
    return status.st_size if stat.S_ISREG(status.st_mode) else None
