"""The images that a command line names: files, folders with all below them, and lists on standard input."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import BinaryIO, Callable, Iterator, List, Sequence, Set, Tuple

import numpy as np

from shared.errors import DataError
from shared.imagenet.layout import counted
from shared.imagenet.split import LeftOut, Split, entries, is_folder, is_hidden, is_image, listing

Named = Callable[[str], bool]  # whether a file of this name is read
LIST = "-"  # the word for a list on standard input


@dataclass(frozen=True, eq=False)
class ImageList(Split):
    """Images at any paths, without labels (they are all 0). `name` is the path of an image as it was given."""

    @classmethod
    def of(cls, paths: Sequence[str]) -> ImageList:
        """These paths, in this order."""
        names = [os.fsencode(path) for path in paths]
        lengths = np.array([len(name) for name in names], np.int64)
        fields = listing(np.array([len(names)]), b"".join(names), lengths)
        return cls(folder="the list", classes=("",), left_out=LeftOut(), fingerprint="", **fields)

    def name(self, index: int) -> str:
        """The path of an image as it was given. Raises IndexError."""
        return self.path(index)

    def path(self, index: int) -> str:
        """The same, for `open`."""
        index = range(len(self))[index]
        return os.fsdecode(self.names[self.offsets[index] : self.offsets[index + 1]])


def find_images(
    words: Sequence[str], standard_input: BinaryIO, missing: bool, named: Named = is_image
) -> Tuple[List[str], List[str]]:
    """The paths of the images that these words name, in their order, and lines about what was left out.

    A word is a file, whatever its name; a folder, of which all files `named` as images are taken, sorted, with those of
    the folders below; or "-" for files on standard input, one a line, or each ended by a zero byte as by
    `find -print0`. Raises DataError for what is neither, unless nothing has that name and such are allowed with
    `missing`, for a folder without images, and for an empty list.
    """
    paths: List[str] = []
    notes: List[str] = []
    for word in words:
        if word == LIST:
            listed = list(_listed(standard_input))
            if not listed:
                raise DataError("the list on standard input is empty; give it one path a line")
            for path in listed:
                if os.path.isdir(path):  # as `find` lists it before the files in it
                    raise DataError(f"{path} in the list is a folder; list files alone, as find -type f does")
                paths.append(_checked(path, missing))
        elif os.path.isdir(word):
            paths += _in_folder(word, notes, named)
        else:
            paths.append(_checked(word, missing))
    return paths, notes


def _checked(path: str, missing: bool) -> str:
    """The same. Raises DataError for what is no file: reading a pipe or a device might wait for ever."""
    if os.path.isfile(path) or (missing and not os.path.exists(path)):
        return path
    if os.path.exists(path):
        raise DataError(f"{path} is neither a file nor a folder; save the image in a file")
    raise DataError(
        f"there is no file {path}; check the path, or leave out what cannot be read with --on-bad-image skip"
    )


def _listed(standard_input: BinaryIO) -> Iterator[str]:
    content = standard_input.read()
    for line in content.split(b"\0" if b"\0" in content else b"\n"):
        line = line.rstrip(b"\r")
        if line.strip():
            yield os.fsdecode(line)


def _in_folder(folder: str, notes: List[str], named: Named) -> List[str]:
    """The images in the folder and below it. Raises DataError where there is none, or a folder cannot be read."""
    others: List[str] = []
    found = list(_below(folder, set(), others, named))
    if not found:
        raise DataError(f"{folder} holds no files named as images; name a folder of .jpg, .png, ... or the files")
    if others:
        notes.append(f"{counted(len(others), 'file')} in {folder} not named as images: left out ({others[0]})")
    return found


def _below(folder: str, seen: Set[str], others: List[str], named: Named) -> Iterator[str]:
    """Follows links, each folder once; hidden files and folders are left out."""
    real = os.path.realpath(folder)
    if real in seen:
        return
    seen.add(real)
    for entry in sorted((one for one in entries(folder) if not is_hidden(one.name)), key=lambda one: one.name):
        if is_folder(entry):
            for path in _below(entry.path, seen, others, named):
                yield path
        elif named(entry.name):
            yield entry.path
        else:
            others.append(entry.name)
