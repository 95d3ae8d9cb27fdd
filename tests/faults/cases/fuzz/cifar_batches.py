"""Mutated CIFAR-10 files: a data set with valid shapes and labels, or one error line."""

from __future__ import annotations

import os
import pickle
import random
import shutil
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np

from shared import cifar10
from shared.cifar10 import dataset as batches
from shared.errors import DataError
from tests.faults.case import SHARED, Case
from tests.faults.isolated import first_failure, message_defect
from tests.faults.mutations import mutated
from tests.support import python2_pickle

PER_ROUND = 100
IMAGES = 4  # per file
LABELS = ["aeroplane", "bird", "cat"]
FILES = batches.TRAIN_FILES + (batches.TEST_FILE,)


def _meta() -> Dict[str, Any]:
    return {"num_cases_per_batch": IMAGES, "label_names": LABELS, "num_vis": 3072}


def _batch(rng: random.Random, **changes: Any) -> Dict[str, Any]:
    pixels = np.frombuffer(bytes(rng.randrange(256) for _ in range(IMAGES * 3072)), np.uint8)
    labels = [rng.randrange(len(LABELS)) for _ in range(IMAGES)]
    return dict({"batch_label": "one", "labels": labels, "data": pixels.reshape(IMAGES, 3072)}, **changes)


def write_set(folder: Path, rng: random.Random) -> Path:
    """A data set with four images per file, in protocols 2 (the authors'), 3, 4 and 5."""
    folder.mkdir(parents=True)
    dumps = [python2_pickle.dumps] + [lambda value, p=p: pickle.dumps(value, p) for p in (2, 3, 4, 5)]  # type: ignore[misc]
    (folder / batches.META_FILE).write_bytes(rng.choice(dumps)(_meta()))
    for number, name in enumerate(FILES):
        (folder / name).write_bytes(dumps[number % len(dumps)](_batch(rng)))
    return folder


def _mutated_files(folder: Path, rng: random.Random) -> str:
    good = write_set(folder / "good", rng)
    contents = {path.name: path.read_bytes() for path in sorted(good.iterdir())}
    inputs = []
    for name, other in ((rng.choice(FILES), rng.choice(FILES)) for _ in range(PER_ROUND // 10)):
        inputs += [
            (content, f"{name}: {how}", name)
            for content, how in (mutated(contents[name], contents[other], rng) for _ in range(8))
        ]
        inputs += [(*mutated(contents["batches.meta"], contents[other], rng), "batches.meta") for _ in range(2)]
    return first_failure(inputs, lambda item: _loaded_or_refused(good, contents, item), folder)


def _loaded_or_refused(good: Path, contents: Dict[str, bytes], item: Tuple[bytes, str, str]) -> str:
    """Loading and check-data agree; a data set that loads has valid labels and the stated number of images."""
    content, _, name = item
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
    """The result, or the message of a DataError."""
    try:
        return read(folder)
    except DataError as error:
        line = str(error)
    failure = message_defect(line)
    if failure:
        raise AssertionError(failure)
    return line


def _labels_out_of_range(folder: Path, rng: random.Random) -> str:
    """An invalid label in any file at any position gives one error line that names the file."""
    good = write_set(folder / "good", rng)
    inputs: List[Any] = [len(LABELS), 10, 255, 2**31 - 1, -1, 1.0, "1", None, True, [1]]
    return first_failure(inputs, lambda label: _refused(good, label, rng), folder)


def _refused(good: Path, label: Any, rng: random.Random) -> str:
    name, position = rng.choice(FILES), rng.randrange(IMAGES)
    labels: List[Any] = [0] * IMAGES
    labels[position] = label
    kept = (good / name).read_bytes()
    (good / name).write_bytes(pickle.dumps(_batch(rng, labels=labels), 2))
    verdicts = [_verdict(read, good) for read in (cifar10.load, cifar10.describe)]
    (good / name).write_bytes(kept)
    if not all(isinstance(verdict, str) and name in verdict for verdict in verdicts):
        return f"label {label!r} of image {position} in {name} is accepted: {verdicts}"[:300]
    return ""


def _other_forms(folder: Path, rng: random.Random) -> str:
    """The binary version, circular links, pipes, devices, folders instead of files, and huge files."""
    good = write_set(folder / "good", rng)
    folders = []
    for number in range(6):
        folders.append(shutil.copytree(str(good), str(folder / f"form{number}")))
    for name in FILES:
        os.rename(os.path.join(folders[0], name), os.path.join(folders[0], name + ".bin"))
    os.unlink(os.path.join(folders[1], "data_batch_3"))
    os.mkfifo(os.path.join(folders[1], "data_batch_3"))  # reading it would block
    os.unlink(os.path.join(folders[2], "test_batch"))
    os.symlink("test_batch", os.path.join(folders[2], "test_batch"))
    os.unlink(os.path.join(folders[3], "test_batch"))
    os.mkdir(os.path.join(folders[3], "test_batch"))
    os.unlink(os.path.join(folders[4], "batches.meta"))
    os.symlink("/dev/zero", os.path.join(folders[4], "batches.meta"))
    with open(os.path.join(folders[5], "data_batch_1"), "ab") as file:
        file.truncate(2**40)  # a sparse file of 1 TiB
    return first_failure(folders, _not_accepted, folder)


def _not_accepted(path: str) -> str:
    return "" if isinstance(_verdict(cifar10.load, Path(path)), str) else f"{path} is accepted"


CASES = [
    Case("mutated CIFAR-10 files, 100 a round", SHARED, _mutated_files, rounds=20),
    Case("CIFAR-10 labels out of range", SHARED, _labels_out_of_range, rounds=10),
    Case("CIFAR-10 files that are none", SHARED, _other_forms),
]
