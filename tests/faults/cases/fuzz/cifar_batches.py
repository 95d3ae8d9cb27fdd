"""Mutated CIFAR-10 files: a data set of the right shapes and labels, or one line."""

from __future__ import annotations

import os
import pickle
import random
import shutil
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np

from shared import cifar10
from shared.cifar10 import batches
from shared.errors import DataError
from tests.faults.case import SHARED, Case
from tests.faults.isolated import bad_line, tried
from tests.faults.mutations import mutated
from tests.support import python2_pickle

PER_ROUND = 100
IMAGES = 4  # a file
LABELS = ["aeroplane", "bird", "cat"]
FILES = batches.TRAIN_FILES + (batches.TEST_FILE,)


def _meta() -> Dict[str, Any]:
    return {"num_cases_per_batch": IMAGES, "label_names": LABELS, "num_vis": 3072}


def _batch(source: random.Random, **changes: Any) -> Dict[str, Any]:
    pixels = np.frombuffer(bytes(source.randrange(256) for _ in range(IMAGES * 3072)), np.uint8)
    labels = [source.randrange(len(LABELS)) for _ in range(IMAGES)]
    return dict({"batch_label": "one", "labels": labels, "data": pixels.reshape(IMAGES, 3072)}, **changes)


def write_set(folder: Path, source: random.Random) -> Path:
    """A whole data set of four images a file, in protocols 2 (as the authors'), 3, 4 and 5."""
    folder.mkdir(parents=True)
    dumps = [python2_pickle.dumps] + [lambda value, p=p: pickle.dumps(value, p) for p in (2, 3, 4, 5)]  # type: ignore[misc]
    (folder / batches.META_FILE).write_bytes(source.choice(dumps)(_meta()))
    for number, name in enumerate(FILES):
        (folder / name).write_bytes(dumps[number % len(dumps)](_batch(source)))
    return folder


def _mutated_files(folder: Path, source: random.Random) -> str:
    good = write_set(folder / "good", source)
    contents = {path.name: path.read_bytes() for path in sorted(good.iterdir())}
    inputs = []
    for name, other in ((source.choice(FILES), source.choice(FILES)) for _ in range(PER_ROUND // 10)):
        inputs += [
            (content, f"{name}: {how}", name)
            for content, how in (mutated(contents[name], contents[other], source) for _ in range(8))
        ]
        inputs += [(*mutated(contents["batches.meta"], contents[other], source), "batches.meta") for _ in range(2)]
    return tried(inputs, lambda one: _loaded_or_refused(good, contents, one), folder)


def _loaded_or_refused(good: Path, contents: Dict[str, bytes], one: Tuple[bytes, str, str]) -> str:
    """Loading and check-data agree; what loads has labels in range and as many images as it says."""
    content, _, name = one
    (good / name).write_bytes(content)
    try:
        described = _verdict(cifar10.describe, good)
        loaded = _verdict(cifar10.load, good)
        if isinstance(described, str) or isinstance(loaded, str):
            return "" if described == loaded else f"check-data: {described}, loading: {loaded}"[:500]
        images, labels = len(loaded.train_images), np.concatenate([loaded.train_labels, loaded.test_labels])
        if images != 5 * len(loaded.test_images) or len(labels) != images + len(loaded.test_images):
            return f"{images} and {len(loaded.test_images)} images, {len(labels)} labels"
        if loaded.train_images.shape[1:] != (32, 32, 3) or labels.min() < 0 or labels.max() >= len(loaded.label_names):
            return f"images {loaded.train_images.shape}, labels up to {labels.max()} of {len(loaded.label_names)}"
        return "the name of the official data set" if loaded.name == cifar10.OFFICIAL_NAME else ""
    finally:
        (good / name).write_bytes(contents[name])


def _verdict(read: Any, folder: Path) -> Any:
    """What it gives, or the line of the DataError that it raises."""
    try:
        return read(folder)
    except DataError as error:
        line = str(error)
    wrong = bad_line(line)
    if wrong:
        raise AssertionError(wrong)
    return line


def _labels_out_of_range(folder: Path, source: random.Random) -> str:
    """A label beyond the classes, below none, or no number, in any file at any place, is one line that names it."""
    good = write_set(folder / "good", source)
    inputs: List[Any] = [len(LABELS), 10, 255, 2**31 - 1, -1, 1.0, "1", None, True, [1]]
    return tried(inputs, lambda label: _refused(good, label, source), folder)


def _refused(good: Path, label: Any, source: random.Random) -> str:
    name, place = source.choice(FILES), source.randrange(IMAGES)
    labels: List[Any] = [0] * IMAGES
    labels[place] = label
    kept = (good / name).read_bytes()
    (good / name).write_bytes(pickle.dumps(_batch(source, labels=labels), 2))
    verdicts = [_verdict(read, good) for read in (cifar10.load, cifar10.describe)]
    (good / name).write_bytes(kept)
    if not all(isinstance(verdict, str) and name in verdict for verdict in verdicts):
        return f"label {label!r} of image {place} in {name} is accepted: {verdicts}"[:300]
    return ""


def _other_forms(folder: Path, source: random.Random) -> str:
    """The binary version, the packed archive, links in a circle, pipes, folders in the place of files."""
    good = write_set(folder / "good", source)
    places = []
    for number in range(6):
        places.append(shutil.copytree(str(good), str(folder / f"form{number}")))
    for name in FILES:
        os.rename(os.path.join(places[0], name), os.path.join(places[0], name + ".bin"))
    os.unlink(os.path.join(places[1], "data_batch_3"))
    os.mkfifo(os.path.join(places[1], "data_batch_3"))  # reading it would wait for ever
    os.unlink(os.path.join(places[2], "test_batch"))
    os.symlink("test_batch", os.path.join(places[2], "test_batch"))
    os.unlink(os.path.join(places[3], "test_batch"))
    os.mkdir(os.path.join(places[3], "test_batch"))
    os.unlink(os.path.join(places[4], "batches.meta"))
    os.symlink("/dev/zero", os.path.join(places[4], "batches.meta"))
    with open(os.path.join(places[5], "data_batch_1"), "ab") as file:
        file.truncate(2**40)  # a sparse file of 1 TiB
    return tried(places, _not_accepted, folder)


def _not_accepted(place: str) -> str:
    return "" if isinstance(_verdict(cifar10.load, Path(place)), str) else f"{place} is accepted"


CASES = [
    Case("mutated CIFAR-10 files, 100 a round", SHARED, _mutated_files, rounds=20),
    Case("CIFAR-10 labels out of range", SHARED, _labels_out_of_range, rounds=10),
    Case("CIFAR-10 files that are none", SHARED, _other_forms),
]
