"""Maps of what a network looked at, drawn over its images: a PNG file for each image, all in one folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Dict, Iterator, List, Sequence, Set

import numpy as np

from shared.errors import UsageError
from shared.imagenet.layout import counted, some
from shared.system import png
from shared.system.atomic_files import write_atomic
from shared.system.paths import writing

# RGB of every 17th of the 256 colours of matplotlib's magma (Smith and van der Walt 2015, CC0), which is perceptually
# uniform: its lightness alone tells the order. Between them it is linear, within 2.2 of 255 of matplotlib's.
_MAGMA = (
    "000004 0b0924 20114b 3b0f70 57157e 721f81 8c2981 a8327d c43c75 de4968 f1605d fa7f5e fe9f6d febf84 fddea0 fcfdbf"
)


def overlay(image: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3]: half the image, which is the same, half the colours of the map `shares` [H, W], 0 to 1."""
    colours = np.array([list(bytes.fromhex(colour)) for colour in _MAGMA.split()])
    places = np.linspace(0, 1, len(colours))
    coloured = np.stack([np.interp(shares, places, channel) for channel in colours.T], axis=-1)
    blended: np.ndarray = np.rint((image + coloured) / 2).astype(np.uint8)
    return blended


class Overlays:
    """The files of these images in a folder: the image's name with .png, and a number from the second of a name on."""

    def __init__(self, folder: str, images: Sequence[str]) -> None:
        """Raises UsageError where one of the files exists, which may be an image, or the folder is a file."""
        distinct = list(dict.fromkeys(images))
        self.paths = {image: Path(folder, name) for image, name in zip(distinct, _names(distinct))}
        self._folder = Path(folder)
        self._flat: List[str] = []  # images whose map is the same everywhere
        if self._folder.exists() and not self._folder.is_dir():
            raise UsageError(f"{folder} is a file; name a folder with --grad-cam")
        taken = [path for path in self.paths.values() if os.path.lexists(str(path))]
        if taken:
            raise UsageError(f"{taken[0]} exists and is not replaced; name another folder with --grad-cam")

    def make_folder(self) -> None:
        """Make the folder and its parents. Raises UsageError."""
        with writing(self._folder, "name another folder with --grad-cam"):
            self._folder.mkdir(parents=True, exist_ok=True)

    def write(self, names: Sequence[str], images: np.ndarray, maps: np.ndarray) -> List[str]:
        """Write the overlays of uint8 [B, S, S, 3] with the maps [B, S, S], 0 to 1; their paths.

        Each is complete or absent. Raises UsageError.
        """
        for name, image, shares in zip(names, images, maps):
            with writing(self.paths[name], "free space, or name another folder with --grad-cam"):
                write_atomic(self.paths[name], png.encode(overlay(image, shares)))
        self._flat += [name for name, shares in zip(names, maps) if np.ptp(shares) < 1e-6]
        return [str(self.paths[name]) for name in names]

    def remarks(self) -> Iterator[str]:
        """Lines for the log about what was written."""
        if self._flat:
            why = "no part of them speaks more for its class than others, or they are too small for more than one part"
            yield f"note: the overlays of {counted(len(self._flat), 'image')} show nothing ({some(self._flat)}): {why}"


def _names(images: Sequence[str]) -> List[str]:
    """A name for each image; no two of them are the same where capital letters are the same as small ones."""
    names: List[str] = []
    used: Set[str] = set()
    counts: Dict[str, int] = {}
    for image in images:
        stem = os.path.splitext(os.path.basename(image))[0]
        name = stem
        while name.lower() in used:
            counts[stem.lower()] = counts.get(stem.lower(), 1) + 1
            name = f"{stem}-{counts[stem.lower()]}"
        used.add(name.lower())
        names.append(f"{name}.png")
    return names
