"""Sort a flat val/ into class folders, as valprep.sh does. All moves are checked before the first is made."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Callable, Dict, List, Sequence, Tuple, Union

from shared.errors import DataError
from shared.imagenet.layout import counted, find, some
from shared.imagenet.split import INNER, class_folders, entries, is_folder, is_image
from shared.imagenet.val_labels import read_list


def sort_val(path: Union[str, Path], list_path: str, say: Callable[[str], None]) -> None:
    """Move the images directly in val/ into the folders of their classes and say how many.

    Images of Tiny-ImageNet are moved out of val/images, which is removed once it is empty. `list_path` is read by
    `val_labels.read_list`. Nothing is moved unless each image has a class, which train/ must have too if it exists, and
    no file is in the way. No file is deleted or replaced. Another call completes an interrupted one. Raises DataError,
    one line.
    """
    val = find(path, ("val",)) / "val"
    wnids, source_folder = read_list(list_path), val
    names = _loose_images(val)
    if not names and os.path.isdir(str(val / INNER)):
        source_folder = val / INNER
        names = _loose_images(source_folder)
    if not names:
        say(f"{val} is sorted already: no image lies outside class folders")
        return
    _check_classes(val, names, wnids, list_path)
    moves = [(source_folder / name, val / wnids[name] / name) for name in names]
    _check_moves(moves)
    for source, target in moves:
        try:
            os.makedirs(str(target.parent), exist_ok=True)
            os.rename(str(source), str(target))
        except OSError as error:
            raise DataError(
                f"cannot move {source} to {target} ({error.strerror}); mend that and run it again"
            ) from error
    if source_folder != val:
        with contextlib.suppress(OSError):  # it holds other files
            source_folder.rmdir()
    folders = len({target.parent for _, target in moves})
    say(f"{val}: {counted(len(moves), 'image')} moved into {counted(folders, 'class folder')}")
    absent = sum(not os.path.lexists(str(val / wnid / name)) for name, wnid in wnids.items())
    if absent:
        say(f"note: {counted(absent, 'image')} of {list_path} not found in {val}")


def _loose_images(val: Path) -> List[str]:
    return sorted(entry.name for entry in entries(str(val)) if not is_folder(entry) and is_image(entry.name))


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
            named = counted(len(foreign), "class", "classes")
            raise DataError(f"{list_path} has {named} that {train} has not ({some(foreign)}); complete train/ first")


def _check_moves(moves: Sequence[Tuple[Path, Path]]) -> None:
    for source, target in moves:
        if os.path.lexists(str(target)):
            raise DataError(f"{target} is there already; compare it with {source} and keep one of them")
        if os.path.lexists(str(target.parent)) and not os.path.isdir(str(target.parent)):
            raise DataError(f"{target.parent} is in the way of a class folder; move it elsewhere")
        if os.path.islink(str(source)) and not os.path.isabs(os.readlink(str(source))):
            raise DataError(f"{source} is a relative link, which a move would break; make it an absolute one")
