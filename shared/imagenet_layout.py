"""The folders of ImageNet: where train/ and val/ are, and whether they belong together.

    imagenet/
        train/n01440764/*.JPEG ... train/n15075141/*.JPEG     1,000 classes, 1,281,167 images
        val/n01440764/*.JPEG   ... val/n15075141/*.JPEG       1,000 classes, 50,000 images

That is how the archives of https://image-net.org (ILSVRC 2012, Russakovsky et al. 2015) are laid out by everybody
who trains on them. Any other images in the same layout will do.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import List, Sequence, Tuple, Union

from shared.errors import fault
from shared.imagenet_split import LeftOut, Split
from shared.paths import expanded

OFFICIAL_NAME = "imagenet"
UNNAMED = "imagenet-layout"
SPLITS = ("train", "val")

_SUBFOLDERS = ("imagenet", "ImageNet", "ILSVRC2012")
_ARCHIVES = {"train": "ILSVRC2012_img_train.tar", "val": "ILSVRC2012_img_val.tar"}
_OFFICIAL_IMAGES = {"train": 1281167, "val": 50000}
_OFFICIAL_CLASSES = "385e0240499426c022b773be1ae4da780f057b89c9694c7f47199f62746b6edd"  # SHA-256 of the sorted wnids
_SHOWN = 3  # names in one message


def find(path: Union[str, Path], splits: Sequence[str] = SPLITS) -> Path:
    """Return the absolute folder that holds the splits' folders: `path`, or its one sub-folder named as the set.

    Raises DataError, one line, where there is none.
    """
    given = Path(os.path.abspath(expanded(path)))
    if not os.path.isdir(str(given)):
        if given.name in _ARCHIVES.values() and os.path.isfile(str(given)):
            raise fault(f"{given} is still packed; extract it and give the folder that holds train/ and val/")
        what = "is not a folder" if os.path.lexists(str(given)) else "does not exist"
        raise fault(f"{given} {what}; give the folder that holds train/ and val/ with --data-path")
    places = [given] + [given / name for name in _SUBFOLDERS]
    found = [place for place in places if any(os.path.isdir(str(place / split)) for split in SPLITS)]
    root = found[0] if found and (found[0] == given or len(found) == 1) else given
    for split in splits:
        if not os.path.isdir(str(root / split)):
            raise fault(_missing(root, split))
    return root


def faults(parts: Sequence[Split]) -> List[str]:
    """Return what is wrong with the splits, each alone and together, a line each: "what is wrong; what to do"."""
    found = [line for part in parts for line in _faults_alone(part)]
    if len(parts) == 2 and all(part.classes for part in parts):
        found += _missing_classes(parts[0], parts[1]) + _missing_classes(parts[1], parts[0])
    return found


def remarks(parts: Sequence[Split]) -> Tuple[str, ...]:
    """Return what a user should know and need not mend, a line each."""
    return tuple(line for part in parts for line in _remarks(part.subset, part.left_out))


def is_official(parts: Sequence[Split]) -> bool:
    """Whether these are the official 1,000 classes with the official numbers of images. No image is read."""
    return all(
        len(part) == _OFFICIAL_IMAGES[part.subset]
        and hashlib.sha256("\n".join(part.classes).encode("utf-8", "replace")).hexdigest() == _OFFICIAL_CLASSES
        for part in parts
    )


def name_of(root: Path, official: bool) -> str:
    """Return 'imagenet' for the official set alone, else the folder's own name where that is a plain one."""
    if official:
        return OFFICIAL_NAME
    plain = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z", root.name)
    return root.name if plain and root.name.lower() != OFFICIAL_NAME else UNNAMED


def counted(number: int, singular: str, plural: str = "") -> str:
    """'1 image', '1,281,167 images'."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def some(names: Sequence[str]) -> str:
    """The first few names."""
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


# -- what is wrong -------------------------------------------------------------------------------


def _missing(root: Path, split: str) -> str:
    if os.path.lexists(str(root / split)):
        return f"{root / split} is not a folder; put the {split} images there, a folder per class"
    archive = root / _ARCHIVES[split]
    if os.path.isfile(str(archive)):
        return f"{archive} is still packed; extract it into {root / split}, a folder per class"
    if root.name in SPLITS and os.path.isdir(str(root.parent / split)):
        return f"{root} is one of the two parts; give the folder that holds both, {root.parent}"
    return f"{root} holds no {split}/; give the folder that holds train/ and val/, each with a folder per class"


def _faults_alone(part: Split) -> List[str]:
    folder, left_out = part.folder, part.left_out
    if left_out.unsorted or (left_out.loose and not part.classes):
        images = counted(left_out.unsorted or left_out.loose, "image")
        if part.subset == "train":
            return [f"{folder} has {images} outside class folders; move each into the folder of its class"]
        return [f"{folder} is not sorted ({images} outside class folders); {_sorting(folder)}"]
    if not part.classes:
        packed = any(name.endswith(".tar") for name in os.listdir(folder))
        if packed:
            return [f"{folder} holds archives that are still packed; extract each into a folder of its name"]
        return [f"{folder} holds no class folders; put the images there, a folder per class"]
    empty = [name for name, count in zip(part.classes, part.class_counts()) if not count]
    if empty:
        classes = counted(len(empty), "class", "classes")
        return [f"{folder} has {classes} without images ({some(empty)}); fill or remove them"]
    return []


def _sorting(folder: str) -> str:
    root = os.path.dirname(folder)
    return f"run python torch_imagenet/main.py check-data --data-path {root} --sort-val LIST, LIST being valprep.sh"


def _missing_classes(one: Split, other: Split) -> List[str]:
    missing = sorted(set(one.classes) - set(other.classes))
    if not missing:
        return []
    classes = counted(len(missing), "class", "classes")
    return [f"{other.folder} lacks {classes} of {one.subset}/ ({some(missing)}); both need the same classes"]


def _remarks(split: str, left_out: LeftOut) -> List[str]:
    lines = []
    if left_out.files:
        lines.append(f"{split}/: {counted(left_out.files, 'file')} left out, hidden or no image by name")
    if left_out.folders:
        lines.append(f"{split}/: {counted(left_out.folders, 'folder')} left out, hidden or inside a class folder")
    if left_out.loose - left_out.unsorted:
        lines.append(f"{split}/: {counted(left_out.loose - left_out.unsorted, 'image')} left out, in no class folder")
    return lines
