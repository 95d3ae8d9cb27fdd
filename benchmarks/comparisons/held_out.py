"""A data set in CIFAR-10's layout whose evaluation images are training images: choices made on it have seen no test."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Union

import numpy as np

from benchmarks.comparisons.plan import HELD_OUT
from shared.cifar10 import dataset
from shared.system.atomic_files import write_atomic


def write_held_out(data_path: Union[str, Path], folder: Path, seed: int = 0) -> Path:
    """Write the training images of the data set at `data_path`, a sixth of them as its evaluation images.

    They are dealt at random, by `seed`, into the six files of the layout, each of which gets 8,333 of CIFAR-10's
    50,000; two are left out. The file of test images is never opened. Raises DataError for a damaged data set, OSError.
    """
    source = dataset.find(data_path)
    meta = dataset.read_meta(source)
    batches = [dataset.read_batch(source / name, meta) for name in dataset.TRAIN_FILES]
    pixels, labels = (np.concatenate([batch[part] for batch in batches]) for part in (1, 2))
    cases = len(labels) // len(dataset.FILES)
    order = np.random.RandomState(seed).permutation(len(labels))
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(dataset.FILES):
        part = np.sort(order[number * cases : (number + 1) * cases])
        content = {"data": pixels[part], "labels": labels[part].tolist()}
        write_atomic(folder / name, pickle.dumps(content, protocol=2))
    names = {"num_cases_per_batch": cases, "num_vis": pixels.shape[1], "label_names": list(meta.label_names)}
    write_atomic(folder / dataset.META_FILE, pickle.dumps({**names, "dataset_name": HELD_OUT}, protocol=2))
    return folder
