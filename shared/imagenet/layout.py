"""The folders of ImageNet: find train/ and val/, and check that they belong together.

    imagenet/
        train/n01440764/*.JPEG ... train/n15075141/*.JPEG     1,000 classes, 1,281,167 images
        val/n01440764/*.JPEG   ... val/n15075141/*.JPEG       1,000 classes, 50,000 images

This is the usual layout of the archives of https://image-net.org (ILSVRC 2012, Russakovsky et al. 2015). Any other
images in the same layout are accepted.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Dict, Iterator, List, Sequence, Tuple, Union

from shared.errors import DataError
from shared.imagenet.split import INNER, Split
from shared.system.paths import expanded
from shared.text import look_alikes

OFFICIAL_NAME = "imagenet"
UNNAMED = "imagenet-layout"
SPLITS = ("train", "val")

_SUBFOLDERS = ("imagenet", "ImageNet", "ILSVRC2012")
_ARCHIVES = {"train": "ILSVRC2012_img_train.tar", "val": "ILSVRC2012_img_val.tar"}
_PACKED = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip", ".7z", ".rar")
_OFFICIAL_IMAGES = {"train": 1281167, "val": 50000}
_OFFICIAL_CLASSES = "385e0240499426c022b773be1ae4da780f057b89c9694c7f47199f62746b6edd"  # SHA-256 of the sorted wnids
_OTHER_NAMES = {"train": ("training", "Train", "TRAIN"), "val": ("validation", "valid", "Val", "VAL", "test")}
_TINY_LIST = "val_annotations.txt"  # Tiny-ImageNet's
_SHOWN = 3  # names in one message


def present(root: Path) -> Sequence[str]:
    """The splits that exist: train/ may be missing, because an evaluation needs only val/."""
    return SPLITS if os.path.lexists(str(root / "train")) else ("val",)


def find(path: Union[str, Path], splits: Sequence[str] = SPLITS) -> Path:
    """The absolute folder of the splits: `path`, or its sub-folder named imagenet or the like. Raises DataError."""
    start = Path(os.path.abspath(expanded(path)))
    if not os.path.isdir(str(start)):
        what, advice = "does not exist", "give the folder that holds train/ and val/ with --data-path"
        if os.path.isfile(str(start)) and start.name.lower().endswith(_PACKED):
            what, advice = "is still packed", "extract it and give the folder of train/ and val/, or that of tar shards"
        elif os.path.lexists(str(start)):
            what = "is not a folder"
        raise DataError(f"{start} {what}; {advice}")
    places = [start] + [start / name for name in _SUBFOLDERS]
    found = [place for place in places if any(os.path.isdir(str(place / split)) for split in SPLITS)]
    root = found[0] if found and (found[0] == start or len(found) == 1) else start
    for split in splits:
        if not os.path.isdir(str(root / split)):
            raise DataError(_missing(root, split))
    return root


def faults(parts: Sequence[Split]) -> List[str]:
    """The faults of each split and of both together, a line each: "what is wrong; what to do"."""
    found = [line for part in parts for line in _faults_alone(part)]
    if len(parts) == 2 and all(part.classes for part in parts):
        found += [*_missing_classes(parts[0], parts[1]), *_missing_classes(parts[1], parts[0])]
    return found


def remarks(parts: Sequence[Split]) -> Tuple[str, ...]:
    """Harmless facts that the user should know, a line each."""
    return tuple(line for part in parts for line in _remarks(part))


def is_official(parts: Sequence[Split]) -> bool:
    """Whether classes and numbers of images are the official ones. No image is read."""
    return all(
        len(part) == _OFFICIAL_IMAGES[part.subset]
        and hashlib.sha256("\n".join(part.classes).encode("utf-8", "replace")).hexdigest() == _OFFICIAL_CLASSES
        for part in parts
    )


def name_of(root: Path) -> str:
    """The name of a set in this folder that is not the official one: the folder's, if that is a plain one."""
    plain = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z", root.name)
    return root.name if plain and root.name.lower() != OFFICIAL_NAME else UNNAMED


def counted(number: int, noun: str) -> str:
    """'1 class', '1,000 classes', '1,281,167 images'."""
    return f"{number:,} {noun}" + ("" if number == 1 else "es" if noun.endswith("s") else "s")


def some(names: Sequence[str]) -> str:
    """The first few names."""
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def _missing(root: Path, split: str) -> str:
    if os.path.lexists(str(root / split)):
        return f"{root / split} is not a folder; put the {split} images there, a folder per class"
    archive = root / _ARCHIVES[split]
    if os.path.isfile(str(archive)):
        return f"{archive} is still packed; extract it into {root / split}, a folder per class"
    if root.name in SPLITS and os.path.isdir(str(root.parent / split)):
        return f"{root} is one of the two parts; give the folder that holds both, {root.parent}"
    for other in _OTHER_NAMES[split]:
        if os.path.isdir(str(root / other)):
            return f"{root} holds no {split}/ but {other}/; if that is the same, give it the name {split}"
    return f"{root} holds no {split}/; give the folder that holds train/ and val/, each with a folder per class"


def _faults_alone(part: Split) -> Iterator[str]:
    folder, left_out = part.folder, part.left_out
    empty = [name for name, count in zip(part.classes, part.class_counts()) if not count]
    tiny_list = os.path.join(folder, _TINY_LIST)
    if part.classes == (INNER,) and os.path.isfile(tiny_list):
        what = f"{folder} is Tiny-ImageNet's as it is unpacked, all classes in {INNER}/"
        yield f"{what}; {_sorting(folder, tiny_list)}"
    elif left_out.unsorted or (left_out.loose and not part.classes):
        images = f"{counted(left_out.unsorted or left_out.loose, 'image')} outside class folders"
        if part.subset == "train":
            yield f"{folder} has {images}; move each into the folder of its class"
        else:
            yield f"{folder} is not sorted ({images}); {_sorting(folder, 'LIST')}, LIST being valprep.sh"
    elif not part.classes:
        advice = "put one per class there, or extract each archive into a folder of its name"
        yield f"{folder} holds no class folders; {advice}"
    elif empty:
        advice = "move what lies deeper into train/CLASS/ and val/CLASS/, or " if left_out.folders else ""
        yield f"{folder} has {counted(len(empty), 'class')} without images ({some(empty)}); {advice}fill or remove them"


def _sorting(folder: str, list_path: str) -> str:
    root = os.path.dirname(folder)
    return f"run python torch_imagenet/main.py check-data --data-path {root} --sort-val {list_path}"


def _missing_classes(one: Split, other: Split) -> Iterator[str]:
    missing = sorted(set(one.classes) - set(other.classes))
    alike = look_alikes(missing, set(other.classes) - set(one.classes))
    if alike:
        has = f"{other.folder} has {counted(len(alike), 'class')} of {one.subset}/ under names that look alike"
        yield f"{has} and are spelt otherwise ({_pairs(alike)}); rename the folders in one of them"
    elif missing:
        lacks = f"{other.folder} lacks {counted(len(missing), 'class')} of {one.subset}/"
        yield f"{lacks} ({some(missing)}); both need the same classes"


def _pairs(alike: Dict[str, str]) -> str:
    return some([f"{ascii(name)} and {ascii(other)}" for name, other in alike.items()])


def _remarks(part: Split) -> Iterator[str]:
    left_out, alike = part.left_out, look_alikes(part.classes, part.classes)
    for number, what, why in (
        (left_out.files, "file", "hidden or no image by name"),
        (left_out.folders, "folder", "hidden or inside a class folder"),
        (left_out.loose - left_out.unsorted, "image", "in no class folder"),
    ):
        if number:
            yield f"{part.subset}/: {counted(number, what)} left out, {why}"
    if alike:
        yield f"{part.subset}/: two classes have names that look alike ({_pairs(alike)})"
