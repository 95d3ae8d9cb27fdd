"""Sort a flat val/ into class folders, as valprep.sh does. All moves are checked before the first is made.

The validation archive does not have the classes of its images. They are read from a list, in one of these formats:

    valprep.sh                                    lines "mv ILSVRC2012_val_00000293.JPEG n01440764/"
    a text of pairs                               lines "ILSVRC2012_val_00000293.JPEG n01440764", with space, tab or
                                                  comma; Kaggle's LOC_val_solution.csv too, which adds boxes
    ILSVRC2012_devkit_t12 or its folder data      ILSVRC2012_validation_ground_truth.txt and meta.mat
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import Callable, Dict, List, Sequence, Tuple, Union

from shared.errors import DataError
from shared.imagenet.decode import FORMATS
from shared.imagenet.devkit_meta import WNID, read_meta
from shared.imagenet.layout import counted, find, some
from shared.imagenet.split import INNER, class_folders, entries, is_folder, is_image
from shared.system.paths import expanded, reading
from shared.text import decoded, of_system

_GROUND_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
_META = "meta.mat"
_KAGGLE_HEADER = "ImageId,PredictionString"
_NUMBER = re.compile(r"[0-9]{1,9}\Z")
_MAX_BYTES = 64 * 2**20  # Kaggle's list, the longest, has 2.5 million bytes
_FORMS = "give valprep.sh, a text of 'name wnid' lines, or the devkit's folder data"


def sort_val(path: Union[str, Path], list_path: str, say: Callable[[str], None]) -> None:
    """Move the images directly in val/ into the folders of their classes and say how many.

    Images of Tiny-ImageNet are moved out of val/images, which is removed once it is empty. Nothing is moved unless each
    image has a class in the list, which train/ must have too if it exists, and no file is in the way. No file is
    deleted or replaced. Another call completes an interrupted one. Raises DataError, one line.
    """
    val = find(path, ("val",)) / "val"
    wnids, sources = read_list(list_path), _loose_images(val)
    if not sources and os.path.isdir(str(val / INNER)):
        sources = _loose_images(val / INNER)
    if not sources:
        say(f"{val} is sorted already: no image lies outside class folders")
        return
    _check_classes(val, [source.name for source in sources], wnids, list_path)
    moves = [(source, val / wnids[source.name] / source.name) for source in sources]
    _check_moves(moves)
    for source, target in moves:
        try:
            target.parent.mkdir(exist_ok=True)
            os.rename(str(source), str(target))
        except OSError as error:
            what = f"cannot move {source} to {target} ({error.strerror})"
            raise DataError(f"{what}; mend that and run it again") from error
    if sources[0].parent != val:
        with contextlib.suppress(OSError):  # it holds other files
            sources[0].parent.rmdir()
    folders = len({target.parent for _, target in moves})
    say(f"{val}: {counted(len(moves), 'image')} moved into {counted(folders, 'class folder')}")
    absent = sum(not os.path.lexists(str(val / wnid / name)) for name, wnid in wnids.items())
    if absent:
        say(f"note: {counted(absent, 'image')} of {list_path} not found in {val}")


def _loose_images(folder: Path) -> List[Path]:
    images = (entry for entry in entries(str(folder)) if not is_folder(entry) and is_image(entry.name))
    return sorted(folder / entry.name for entry in images)


def _check_classes(val: Path, names: Sequence[str], wnids: Dict[str, str], list_path: str) -> None:
    unknown = [name for name in names if name not in wnids]
    if unknown:
        images = counted(len(unknown), "image")
        raise DataError(f"{list_path} has no class for {images} in {val} ({some(unknown)}); give a list that has all")
    train = val.parent / "train"
    if os.path.isdir(str(train)):
        classes, _ = class_folders(str(train))
        foreign = sorted({wnids[name] for name in names} - set(classes))
        if foreign:
            named = counted(len(foreign), "class")
            raise DataError(f"{list_path} has {named} that {train} has not ({some(foreign)}); complete train/ first")


def _check_moves(moves: Sequence[Tuple[Path, Path]]) -> None:
    for source, target in moves:
        if os.path.lexists(str(target)):
            raise DataError(f"{target} is there already; compare it with {source} and keep one of them")
        if os.path.lexists(str(target.parent)) and not os.path.isdir(str(target.parent)):
            raise DataError(f"{target.parent} is in the way of a class folder; move it elsewhere")
        if os.path.islink(str(source)) and not os.path.isabs(os.readlink(str(source))):
            raise DataError(f"{source} is a relative link, which a move would break; make it an absolute one")


def read_list(path: str) -> Dict[str, str]:
    """Return the wnid of each image by file name. Raises DataError, one line, for anything but such a list."""
    path = os.path.abspath(expanded(path))
    if os.path.isdir(path):
        places = [os.path.join(path, folder, _GROUND_TRUTH) for folder in ("", "data")]
        path = next(filter(os.path.isfile, places), path)
    with reading(path, _FORMS), open(path, "rb") as file:
        content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise DataError(f"{path} is too large for a list of images; {_FORMS}")
    texts = re.split("\r\n|\r|\n", of_system(decoded(content)))
    lines: List[Tuple[int, str]] = [(number, text.strip()) for number, text in enumerate(texts, 1) if text.strip()]
    if not lines:
        raise DataError(f"{path} is empty; {_FORMS}")
    if all(_NUMBER.match(text) for _, text in lines):
        return _from_devkit(path, [int(text) for _, text in lines])
    moves = [(number, text[3:]) for number, text in lines if text.startswith("mv ")]
    wnids: Dict[str, str] = {}
    for number, text in moves or lines:  # of a script, only mv commands count
        if text.startswith("#") or text == _KAGGLE_HEADER:
            continue
        name, wnid, *boxes = [*text.replace(",", " ").split(), "", ""]
        wnid, boxes = wnid.rstrip("/"), boxes[:-2]
        if not WNID.match(wnid) or not all(field.isdigit() or field == wnid for field in boxes) or (moves and boxes):
            raise DataError(f"{path}, line {number} gives no image and wnid, {text[:60]!r}; {_FORMS}")
        if "/" in name or os.sep in name or name.startswith("."):
            raise DataError(f"{path}, line {number}: {name} is no plain file name; {_FORMS}")
        if os.path.splitext(name)[1].lower() not in FORMATS:
            name += ".JPEG"  # which Kaggle's list omits
        if wnids.setdefault(name, wnid) != wnid:
            raise DataError(f"{path}, line {number}: {name} is given two classes; {_FORMS}")
    return wnids


def _from_devkit(path: str, labels: List[int]) -> Dict[str, str]:
    wnids = read_meta(os.path.join(os.path.dirname(path), _META))
    unknown = sorted(set(labels) - set(wnids))
    if unknown:
        raise DataError(f"{path} gives the class {unknown[0]}, which {_META} does not have; extract the devkit afresh")
    return {f"ILSVRC2012_val_{number:08d}.JPEG": wnids[label] for number, label in enumerate(labels, 1)}
