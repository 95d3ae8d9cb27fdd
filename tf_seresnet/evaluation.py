"""Exact evaluation: every test image once, with the moving averages, at any batch size."""

from __future__ import annotations

import dataclasses
import functools
import time
from pathlib import Path
from typing import Any, Dict, Optional, Sequence, Tuple

import numpy as np
import tensorflow as tf

from shared.cifar10.dataset import Cifar10
from shared.class_names import Classes, Match, match
from shared.errors import UsageError
from shared.metrics import Metrics
from shared.recipes.cifar10 import CifarRecipe
from shared.results import record as records
from shared.run import disk_errors
from shared.run.divergence import check_evaluation
from shared.run.example_predictions import FILE, MostConfident, write_examples
from shared.run.folder import named_weights, run_folder, set_aside
from shared.run.log import RunLog, now
from shared.system import png
from shared.system.signals import Interrupts
from tf_seresnet import checkpoints, devices, run_setup
from tf_seresnet.checkpoints import Found
from tf_seresnet.input_pipeline import Normalisation, load_data
from tf_seresnet.network_spec import NetworkSpec
from tf_seresnet.options import RunConfig
from tf_seresnet.run_setup import RunSetup
from tf_seresnet.step import variables
from tf_seresnet.step.inference import Inference
from tf_seresnet.step.replicas import Replicas

tf1 = tf.compat.v1

BATCH_SIZE = 1000  # the original's ten batches of 1000


def evaluate(config: RunConfig, interrupts: Interrupts) -> None:
    """The mode `evaluate`: one checkpoint on the test images. Writes result.json to the output folder."""
    started, begin = now(), time.time()
    # -- What is evaluated -----------------------------------------------------------------------------------------
    setup = _setup(config)
    assert setup.checkpoint is not None
    data, device = setup.data, setup.device
    # -- Where it is written ---------------------------------------------------------------------------------------
    folder = _open_folder(config) if device.rank == 0 else None  # the other ranks write nothing
    with RunLog(folder) as log, tf.Graph().as_default(), device.connected() as replicas:
        _log_setup(log, setup, setup.checkpoint)
        if folder:
            setup.write_config(folder)
        size = batch_size(setup.config, len(data.test_images), device.count)
        inference = Inference(setup.network, setup.normalisation, size, reuse=False, replicas=replicas)
        checkpoint = setup.checkpoint.moved_with(config.output_dir)
        with tf1.Session(config=device.session_config()) as session:
            checkpoints.restore_weights(session, checkpoint, variables.model_variables())
            replicas.align(session)
            # -- Count ---------------------------------------------------------------------------------------------
            stops, examples = replicas.interrupts(interrupts), MostConfident()
            metrics = count_images(session, inference, data, setup.classes, stops, replicas, examples, training=False)
            interrupts.raise_if_requested()
        # -- Record ------------------------------------------------------------------------------------------------
        if folder is None:
            return
        log.evaluation((checkpoint.state or {}).get("progress", {}).get("step", 0), metrics)
        write_pictures(log, folder, examples, data, setup.classes.names)
        result = setup.record(
            "evaluate",
            batch_size=inference.batch_size,
            global_batch_size=inference.batch_size * device.count,
            evaluation={
                **records.evaluation_part(metrics, checkpoint.prefix),
                **records.evaluated_classes(setup.classes, data.label_names),
            },
            parameters=variables.parameters(),
            started=started,
            seconds=time.time() - begin,
        )
        records.finish(log, folder, result, metrics)


def count_images(
    session: Any,
    inference: Inference,
    data: Cifar10,
    classes: Match,
    interrupts: Interrupts,
    replicas: Replicas,
    most_confident: MostConfident,
    training: bool,
) -> Metrics:
    """Metrics over all test images, each evaluated once. Each process evaluates its part of them.

    The metrics are those of all processes; `most_confident` receives the predictions of this process. `classes`
    relates the labels to the network's outputs. Raises Stopped between two batches after a signal, UsageError where
    the images have no result; see `check_evaluation`, which `training` is for.
    """
    images, labels = data.test_images, classes.labels(data.test_labels)
    metrics, layer = Metrics(len(classes.names)), None
    first, end = (len(images) * rank // replicas.ranks for rank in (replicas.rank, replicas.rank + 1))
    interrupts.raise_if_requested()
    for start in range(first, end, inference.images_per_run):
        interrupts.raise_if_requested()
        batch = slice(start, min(start + inference.images_per_run, end))
        logits = inference.run(session, images[batch])
        predicted = metrics.update(
            logits if classes.columns is None else logits[:, list(classes.columns)], labels[batch]
        )
        most_confident.update(np.arange(batch.start, batch.stop), labels[batch], predicted)
        if metrics.non_finite and layer is None:
            layer = inference.first_not_finite(session, images[batch])
    metrics, stopping = replicas.merged(session, metrics, interrupts.requested is not None)
    replicas.agree(stopping)
    check_evaluation(metrics, data.path, layer, training)
    return metrics


def batch_size(config: RunConfig, images: int, devices: int) -> int:
    """Images per evaluation step and device: --eval-batch-size, or what --test_iteration batches need.

    At most the share of one of the `devices`.
    """
    share = -(-images // devices)
    if config.test_iteration:
        return -(-share // config.test_iteration)
    return min(config.eval_batch_size or BATCH_SIZE, share)


def write_pictures(
    log: RunLog, folder: Path, most_confident: MostConfident, data: Cifar10, names: Sequence[str]
) -> None:
    """Write examples.json: test images with the names of their classes. A line in the log where it cannot be."""

    def picture(index: int) -> Tuple[str, bytes]:
        return "image/png", png.encode(data.test_images[index])

    write = functools.partial(write_examples, folder, most_confident, names, picture)
    disk_errors.optional(write, folder / FILE, log)


def _setup(config: RunConfig) -> RunSetup:
    """The setup of the checkpoint's run, with this command's data set and device.

    Raises UsageError where they do not go together.
    """
    found = checkpoints.find(named_weights(config.checkpoint, config.resume, checkpoints.WEIGHTS + ".index"))
    state = found.state
    if state:
        checkpoints.check_stored(found)
    data, remark = load_data(config, state)
    own = Classes(data.label_names)
    outputs = checkpoints.classes(found) or own  # a checkpoint without a head is refused when it is restored
    classes = match(outputs, own, run_setup.CLASSES_ADVICE).for_evaluation(config.restrict_classes)
    recipe = CifarRecipe.from_json(state["recipe"]) if state else run_setup.choose_recipe(config, data)
    network = NetworkSpec.from_config(config, recipe, state, len(outputs.names))
    # The statistics of the training; a bare TensorFlow checkpoint has none, and gets those of this training set.
    normalisation = Normalisation(**state["normalisation"]) if state else Normalisation.from_images(data.train_images)
    device = _open_device(config, recipe, state)
    run_setup.check_devices(device, network)
    if config.batch_size:
        config = dataclasses.replace(config, eval_batch_size=config.batch_size)
    return RunSetup(config, found, data, remark, recipe, network, normalisation, classes, device)


def _open_device(config: RunConfig, recipe: CifarRecipe, state: Optional[Dict[str, Any]]) -> Any:
    """The device, with the precision of the training where that was on the same kind of device, else float32."""
    device = devices.open_from(config, config.precision or "O0", None)
    if config.precision is None and state is not None and state["device"]["kind"] == device.kind:
        return devices.open_from(config, recipe.precision, None)
    return device


def _open_folder(config: RunConfig) -> Path:
    """The folder of the record. Raises UsageError for that of a training, whose record must stay."""
    folder = run_folder(config.output_dir, "evaluate")
    if (folder / "checkpoints").exists():
        raise UsageError(f"{folder} holds a training run; choose another folder for the evaluation with --output-dir")
    set_aside(folder, "tf_seresnet", "evaluate")
    return folder


def _log_setup(log: RunLog, setup: RunSetup, found: Found) -> None:
    device = setup.device
    lines = [setup.data_remark, *found.notes, f"checkpoint: {found.prefix}", f"device: {device.kind}, {device.name}"]
    for line in [*lines, *(f"note: {note}" for note in [*setup.classes.notes, *device.notes])]:
        log.line(line)
