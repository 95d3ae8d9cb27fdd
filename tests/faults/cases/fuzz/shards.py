"""Mutated tar shards, shard indexes and cached indexes: the images or one error line."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any, Dict, Tuple

from tests.faults.case import SHARED, Case
from tests.faults.isolated import first_failure
from tests.faults.mutations import mutated

PER_ROUND = 100


def _write_set(folder: Path, rng: random.Random) -> Path:
    """Class folders with 24 files, which are not decoded as images here."""
    for split in ("train", "val"):
        for number in range(12):
            target = folder / split / f"class{number % 3}"
            target.mkdir(parents=True, exist_ok=True)
            (target / f"image{number}.jpg").write_bytes(bytes([rng.randrange(256)] * (100 + number)))
    return folder


def _shards(folder: Path, rng: random.Random) -> str:
    """Mutated shards, with their index and without."""
    from shared import imagenet
    from shared.imagenet.shards.write import write_shards

    data = imagenet.load(_write_set(folder / "images", rng), cache=folder / "cache")
    assert data.train is not None
    write_shards(data.name, (data.train, data.val), folder / "shards", 2**20, lambda text: None)
    contents = {path.name: path.read_bytes() for path in (folder / "shards").iterdir() if path.suffix != ".txt"}
    inputs = []
    for _ in range(PER_ROUND):
        name, other = rng.choice(sorted(contents)), rng.choice(sorted(contents))
        inputs.append((*mutated(contents[name], contents[other], rng), name, rng.choice((True, False))))
    return first_failure(inputs, lambda item: _loaded(folder, contents, item), folder)


def _loaded(folder: Path, contents: Dict[str, bytes], item: Tuple[bytes, str, str, bool]) -> str:
    """Labels are valid, and every image's bytes are inside its shard."""
    from shared import imagenet

    content, _, name, with_index = item
    target = folder / "shards"
    for other, good in contents.items():
        if with_index or other.endswith(".tar"):
            (target / other).write_bytes(content if other == name else good)
        elif (target / other).exists():
            os.unlink(str(target / other))
    data = imagenet.load(target, cache=folder / "cache")
    assert data.train is not None
    for split in (data.train, data.val):
        if len(split) and not 0 <= split.labels.min() <= split.labels.max() < len(split.classes):
            return f"labels {split.labels.min()} to {split.labels.max()} of {len(split.classes)} classes"
        for index in range(len(split)):
            extent: Any = split.extent(index)
            if extent.start < 0 or extent.start + extent.size > os.path.getsize(str(extent.file)):
                return f"{split.name(index)} is beyond the end of its shard"
    return ""


def _kept_index(folder: Path, rng: random.Random) -> str:
    """A damaged index in the cache is ignored: the split is that of the folder."""
    from shared.imagenet import dataset
    from shared.imagenet.split import scan

    root = _write_set(folder / "images", rng) / "train"
    for path in [root, *root.iterdir()]:
        os.utime(str(path), (1e9, 1e9))
    fresh = scan(str(root))
    state = dataset._state(str(root))
    content = dataset._pack(fresh, state[1])
    inputs = [mutated(content, content, rng) for _ in range(PER_ROUND)]

    def same(item: Tuple[bytes, str]) -> str:
        try:
            found = dataset._unpack(item[0], str(root), state[0], state[1])
        except Exception:  # the index is rebuilt
            return ""
        alike = found.fingerprint == fresh.fingerprint and found.names == fresh.names
        return "" if alike and found.labels.tolist() == fresh.labels.tolist() else "another split is read from it"

    return first_failure(inputs, same, folder)


CASES = [
    Case("mutated shards and their indexes, 100 a round", SHARED, _shards, rounds=20),
    Case("mutated kept indexes, 100 a round", SHARED, _kept_index, rounds=20),
]
