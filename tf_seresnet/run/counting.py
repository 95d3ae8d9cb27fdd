"""The test images, each counted once, whatever computes their logits, and the pictures of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Tuple

import numpy as np

from shared.metrics import Metrics
from shared.run.divergence import check_evaluation
from shared.run.example_predictions import MostConfident, write_examples
from shared.run.folder import refuse_training, run_folder, set_aside
from shared.run.log import RunLog
from shared.system import png
from shared.system.signals import Interrupts
from tf_seresnet.options import RunConfig
from tf_seresnet.run.setup import RunSetup

BATCH_SIZE = 1000  # the original's ten batches of 1000


def count_images(
    session: Any, setup: RunSetup, inference: Any, interrupts: Interrupts, most_confident: MostConfident
) -> Metrics:
    """Metrics over all test images, each evaluated once. Each process evaluates its part of them.

    `inference` is a graph's in its session, or the Keras model's with its weights in the session's place. The metrics
    are those of all processes; `most_confident` receives the predictions of this process. Raises Stopped between two
    batches after a signal, UsageError where the images have no result; see `check_evaluation`.
    """
    data, classes, replicas = setup.data, setup.evaluated_classes, inference.replicas
    images, labels = data.test_images, classes.labels(data.test_labels)
    metrics, layer = Metrics(len(classes.names)), None
    first, end = (len(images) * rank // replicas.size for rank in (replicas.rank, replicas.rank + 1))
    replicas.raise_if_stopping(interrupts)  # also where this process has no image
    for start in range(first, end, inference.images_per_run):
        replicas.raise_if_stopping(interrupts)
        batch = slice(start, min(start + inference.images_per_run, end))
        logits = inference.run(session, images[batch])
        logits = logits if classes.columns is None else logits[:, list(classes.columns)]
        predicted = metrics.update(logits, labels[batch])
        most_confident.update(np.arange(batch.start, batch.stop), labels[batch], predicted)
        if metrics.non_finite and layer is None:
            layer = inference.first_not_finite(session, images[batch])
    metrics = replicas.merged(session, metrics, interrupts.requested is not None)
    check_evaluation(metrics, data.path, layer, training=setup.config.mode == "train")
    return metrics


def batch_size(setup: RunSetup) -> int:
    """The images per step and device: --eval-batch-size, or what --test_iteration batches need, at most its share."""
    config, share = setup.config, -(-len(setup.data.test_images) // setup.device.count)
    given = config.eval_batch_size if config.mode == "train" else config.batch_size or config.eval_batch_size
    size = min(given or BATCH_SIZE, share)
    if config.test_iteration:
        size = -(-share // config.test_iteration)
    return size


def write_pictures(log: RunLog, folder: Path, most_confident: MostConfident, setup: RunSetup) -> None:
    """Write examples.json: test images with the names of their classes. A line in the log where it cannot be."""

    def picture(index: int) -> Tuple[str, bytes]:
        return "image/png", png.encode(setup.data.test_images[index])

    write_examples(folder, log, most_confident, setup.evaluated_classes.names, picture)


def open_folder(config: RunConfig) -> Path:
    """The folder of the record. Raises UsageError for that of a training, whose record must stay."""
    folder = run_folder(config.output_dir, "evaluate")
    refuse_training(folder)
    set_aside(folder, "tf_seresnet", "evaluate")
    return folder
