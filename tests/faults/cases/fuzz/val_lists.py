"""Mutated lists of validation images: a flat val/ is sorted completely into existing classes, or left unchanged."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Dict, Tuple

from shared.errors import UsageError
from tests.faults.case import SHARED, Case
from tests.faults.isolated import first_failure
from tests.faults.mutations import mutated

PER_ROUND = 100
_WNIDS = ("n01751748", "n09193705", "n02105855")
_IMAGES = {f"ILSVRC2012_val_{number:08d}.JPEG": _WNIDS[number % 3] for number in range(1, 13)}


def _contents() -> Dict[str, bytes]:
    """The lists by file name."""
    script = "".join(f"mkdir -p {wnid}\n" for wnid in _WNIDS)
    script += "".join(f"mv {name} {wnid}/\n" for name, wnid in _IMAGES.items())
    kaggle = "".join(f"{name[:-5]},{wnid} 85 1 499 272 {wnid} 1 2 3 4\n" for name, wnid in _IMAGES.items())
    return {
        "valprep.sh": ("#!/bin/bash\n" + script).encode(),
        "pairs.txt": "".join(f"{name} {wnid}\n" for name, wnid in _IMAGES.items()).encode(),
        "LOC_val_solution.csv": ("ImageId,PredictionString\n" + kaggle).encode(),
    }


def _devkit(folder: Path) -> Dict[str, bytes]:
    """The files of the development kit that are read; empty without scipy, which writes them."""
    try:
        import numpy as np
        from scipy.io import savemat
    except ImportError:
        return {}
    kind = [("ILSVRC2012_ID", object), ("WNID", object), ("num_children", object)]
    synsets = np.zeros((len(_WNIDS), 1), dtype=kind)
    for row, number in zip(synsets[:, 0], range(len(_WNIDS))):
        row["ILSVRC2012_ID"], row["WNID"], row["num_children"] = number + 1, _WNIDS[number], 0
    folder.mkdir()
    savemat(str(folder / "meta.mat"), {"synsets": synsets})
    truth = "".join(f"{_WNIDS.index(wnid) + 1}\n" for wnid in _IMAGES.values())
    (folder / "ILSVRC2012_validation_ground_truth.txt").write_text(truth)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _lists(folder: Path, rng: random.Random) -> str:
    lists, devkit = _contents(), _devkit(folder / "data")
    inputs = []
    for _ in range(PER_ROUND):
        name, other = rng.choice(sorted({**lists, **devkit})), rng.choice(sorted(lists))
        inputs.append((*mutated({**lists, **devkit}[name], lists[other], rng), name))
    return first_failure(inputs, lambda item: _sorted(folder, devkit, item), folder)


def _sorted(folder: Path, devkit: Dict[str, bytes], item: Tuple[bytes, str, str]) -> str:
    """Every image is in a class folder or, after an error, in none; no other file is added or removed."""
    from shared.imagenet.sort_val import sort_val

    content, _, name = item
    lists, root = folder / "data", folder / "set"
    for target in (lists, root):
        shutil.rmtree(str(target), ignore_errors=True)
    lists.mkdir()
    for other, good in {**devkit, name: content}.items():
        (lists / other).write_bytes(good)
    for wnid in _WNIDS:
        (root / "train" / wnid).mkdir(parents=True)
        (root / "train" / wnid / "one.JPEG").write_bytes(b"x")
    (root / "val").mkdir()
    for image in _IMAGES:
        (root / "val" / image).write_bytes(image.encode())
    before = _files(folder)
    try:
        sort_val(root, str(lists if name in devkit else lists / name), lambda text: None)
    except UsageError:
        if _files(folder) != before:
            return "the list is refused and something is moved"
        raise
    moved = [path for path in before if path not in _files(folder)]
    if {path.name for path in moved} != set(_IMAGES) or len(_files(folder)) != len(before):
        return f"{len(moved)} of {len(_IMAGES)} images are sorted"
    targets = {path.parent for path in _files(folder) if path.parent.parent == root / "val"}
    return "" if {target.name for target in targets} <= set(_WNIDS) else f"sorted into {sorted(targets)}"


def _files(folder: Path) -> Dict[Path, bytes]:
    """All files of the data set and the lists with their contents."""
    return {
        path: path.read_bytes() for name in ("data", "set") for path in (folder / name).rglob("*") if path.is_file()
    }


CASES = [Case("mutated lists of validation images, 100 a round", SHARED, _lists, rounds=20)]
