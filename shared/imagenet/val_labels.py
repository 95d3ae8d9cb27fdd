"""Read the classes of the validation images from a list. The validation archive is flat and does not have them.

The formats in use:

    valprep.sh                                    lines "mv ILSVRC2012_val_00000293.JPEG n01440764/"
    a text of pairs                               lines "ILSVRC2012_val_00000293.JPEG n01440764", with space, tab or
                                                  comma; Kaggle's LOC_val_solution.csv too, which adds boxes
    ILSVRC2012_devkit_t12 or its folder data      ILSVRC2012_validation_ground_truth.txt and meta.mat
"""

from __future__ import annotations

import os
import re
from typing import Dict, List, Tuple

from shared.errors import DataError
from shared.imagenet.devkit_meta import WNID, read_meta
from shared.imagenet.split import EXTENSIONS
from shared.system.paths import expanded, reading
from shared.text import decoded, of_system

_GROUND_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
_META = "meta.mat"
_KAGGLE_HEADER = "ImageId,PredictionString"
_NUMBER = re.compile(r"[0-9]{1,9}\Z")
_MAX_BYTES = 64 * 2**20  # Kaggle's list, the longest, has 2.5 million bytes
_FORMS = "give valprep.sh, a text of 'name wnid' lines, or the devkit's folder data"


def read_list(path: str) -> Dict[str, str]:
    """Return the wnid of each image by file name. Raises DataError, one line, for anything but such a list."""
    path = os.path.abspath(expanded(path))
    if os.path.isdir(path):
        places = [os.path.join(path, _GROUND_TRUTH), os.path.join(path, "data", _GROUND_TRUTH)]
        found = [place for place in places if os.path.isfile(place)]
        if not found:
            raise DataError(f"{path} holds no {_GROUND_TRUTH}; {_FORMS}")
        path = found[0]
    lines = _lines(path)
    if not lines:
        raise DataError(f"{path} is empty; {_FORMS}")
    if all(_NUMBER.match(text) for _, text in lines):
        return _from_devkit(path, [int(text) for _, text in lines])
    wnids: Dict[str, str] = {}
    for number, name, wnid in _pairs(path, lines):
        if wnids.setdefault(name, wnid) != wnid:
            raise DataError(f"{path}, line {number}: {name} is given two classes; {_FORMS}")
    return wnids


def _lines(path: str) -> List[Tuple[int, str]]:
    """Return the lines that are not blank, with their numbers from 1."""
    with reading(path, _FORMS), open(path, "rb") as file:
        content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise DataError(f"{path} is too large for a list of images; {_FORMS}")
    texts = re.split("\r\n|\r|\n", of_system(decoded(content)))
    return [(number, text.strip()) for number, text in enumerate(texts, 1) if text.strip()]


def _pairs(path: str, lines: List[Tuple[int, str]]) -> List[Tuple[int, str, str]]:
    """Return (line number, file name, wnid) of each entry. Of a script, only mv commands count."""
    moves = [(number, text) for number, text in lines if text.startswith("mv ")]
    if moves:
        lines = [(number, text[3:]) for number, text in moves]
    pairs = []
    for number, text in lines:
        if text.startswith("#") or text == _KAGGLE_HEADER:
            continue
        fields = text.replace(",", " ").split()
        wnid = fields[1].rstrip("/") if len(fields) > 1 else ""
        boxes = fields[2:]
        if not WNID.match(wnid) or not all(field.isdigit() or field == wnid for field in boxes) or (moves and boxes):
            raise DataError(f"{path}, line {number} gives no image and wnid, {text[:60]!r}; {_FORMS}")
        pairs.append((number, _file_name(path, number, fields[0]), wnid))
    return pairs


def _file_name(path: str, number: int, name: str) -> str:
    """The name with its extension, which Kaggle's list omits."""
    if "/" in name or os.sep in name or name.startswith("."):
        raise DataError(f"{path}, line {number}: {name} is no plain file name; {_FORMS}")
    return name if os.path.splitext(name)[1].lower() in EXTENSIONS else name + ".JPEG"


def _from_devkit(path: str, labels: List[int]) -> Dict[str, str]:
    wnids = read_meta(os.path.join(os.path.dirname(path), _META))
    unknown = sorted(set(labels) - set(wnids))
    if unknown:
        raise DataError(f"{path} gives the class {unknown[0]}, which {_META} does not have; extract the devkit afresh")
    return {f"ILSVRC2012_val_{number:08d}.JPEG": wnids[label] for number, label in enumerate(labels, 1)}
