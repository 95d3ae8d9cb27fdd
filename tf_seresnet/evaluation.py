"""Exact evaluation: every test image once, with the moving averages, at any batch size."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Tuple

import numpy as np
import tensorflow as tf

from shared.metrics import Metrics
from shared.results import record as records
from shared.run.divergence import check_evaluation
from shared.run.example_predictions import MostConfident, write_examples
from shared.run.folder import refuse_training, run_folder, set_aside
from shared.run.log import RunLog, now
from shared.system import png
from shared.system.signals import Interrupts
from tf_seresnet.devices.replicas import Replicas
from tf_seresnet.options import RunConfig
from tf_seresnet.run import checkpoints, description, dry_run
from tf_seresnet.run.setup import RunSetup
from tf_seresnet.step import variables
from tf_seresnet.step.graph import Inference

tf1 = tf.compat.v1

BATCH_SIZE = 1000  # the original's ten batches of 1000


def evaluate(config: RunConfig, interrupts: Interrupts) -> None:
    """The mode `evaluate`: one checkpoint on the test images. Writes result.json to the output folder."""
    started, begin = now(), time.time()
    # -- What is evaluated -----------------------------------------------------------------------------------------
    setup = RunSetup.from_config(config)
    assert setup.checkpoint is not None
    device = setup.device
    # -- Where it is written ---------------------------------------------------------------------------------------
    writes = device.rank == 0 and not config.dry_run
    folder = _open_folder(config) if writes else None  # the other ranks write nothing
    with RunLog(folder) as log, tf.Graph().as_default(), device.connected() as replicas:
        lines = [
            setup.data_remark,
            *config.command_notes,
            *setup.checkpoint.notes,
            f"checkpoint: {setup.checkpoint.prefix}",
        ]
        lines.append(f"device: {device.kind}, {device.name}")
        for line in [*lines, *(f"note: {note}" for note in [*setup.classes.notes, *device.notes])]:
            log.line(line)
        if folder:
            description.write_config(setup, folder)
        inference = open_inference(setup, replicas, reuse=False)
        checkpoint = setup.checkpoint.moved_with(config.output_dir)
        with tf1.Session(config=device.session_config()) as session:
            checkpoints.restore(session, checkpoint, variables.model_variables())
            replicas.align(session)
            if config.dry_run:
                log.lines(dry_run.of_evaluation(setup, inference.batch_size))
                return
            # -- Count ---------------------------------------------------------------------------------------------
            examples = MostConfident()
            metrics = count_images(session, setup, inference, interrupts, examples)
            interrupts.raise_if_requested()
        # -- Record ------------------------------------------------------------------------------------------------
        if folder is None:
            return
        log.evaluation((checkpoint.state or {}).get("progress", {}).get("step", 0), metrics)
        write_pictures(log, folder, examples, setup)
        result = description.for_record(
            setup,
            metrics,
            checkpoint.prefix,
            batch_size=inference.batch_size,
            global_batch_size=inference.batch_size * device.count,
            started=started,
            seconds=time.time() - begin,
        )
        records.finish(log, folder, result, metrics)


def count_images(
    session: Any, setup: RunSetup, inference: Inference, interrupts: Interrupts, most_confident: MostConfident
) -> Metrics:
    """Metrics over all test images, each evaluated once. Each process evaluates its part of them.

    The metrics are those of all processes; `most_confident` receives the predictions of this process. Raises Stopped
    between two batches after a signal, UsageError where the images have no result; see `check_evaluation`.
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


def open_inference(setup: RunSetup, replicas: Replicas, reuse: bool) -> Inference:
    """The network's inference in the default graph; `reuse` shares the variables of its training.

    The images per step and device are --eval-batch-size, or what --test_iteration batches need, and at most the
    device's share of all.
    """
    config, share = setup.config, -(-len(setup.data.test_images) // setup.device.count)
    given = config.eval_batch_size if config.mode == "train" else config.batch_size or config.eval_batch_size
    size = min(given or BATCH_SIZE, share)
    if config.test_iteration:
        size = -(-share // config.test_iteration)
    return Inference(setup.network, setup.normalisation, size, reuse, replicas)


def write_pictures(log: RunLog, folder: Path, most_confident: MostConfident, setup: RunSetup) -> None:
    """Write examples.json: test images with the names of their classes. A line in the log where it cannot be."""

    def picture(index: int) -> Tuple[str, bytes]:
        return "image/png", png.encode(setup.data.test_images[index])

    write_examples(folder, log, most_confident, setup.evaluated_classes.names, picture)


def _open_folder(config: RunConfig) -> Path:
    """The folder of the record. Raises UsageError for that of a training, whose record must stay."""
    folder = run_folder(config.output_dir, "evaluate")
    refuse_training(folder)
    set_aside(folder, "tf_seresnet", "evaluate")
    return folder
