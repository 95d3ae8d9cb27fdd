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
from shared.class_names import Classes, match
from shared.cli.signals import Interrupts
from shared.errors import UsageError
from shared.metrics import Metrics
from shared.recipes.cifar10 import CifarRecipe
from shared.results import record as records
from shared.results.rows import beside_documented
from shared.results.tables import render
from shared.run import disk_errors, provenance
from shared.run.events import log_evaluation
from shared.run.examples import FILE, MostConfident, write_examples
from shared.run.finite import check_evaluation
from shared.run.folder import named_weights, run_folder, set_aside
from shared.run.log import RunLog, now
from shared.system import png
from tf_seresnet import checkpoints, devices, run_setup
from tf_seresnet.checkpoints import check_stored
from tf_seresnet.input_pipeline import Normalisation
from tf_seresnet.options import RunConfig
from tf_seresnet.step.replicas import ALONE, Replicas
from tf_seresnet.step.training_step import Inference, model_variables, parameters

tf1 = tf.compat.v1

BATCH_SIZE = 1000  # the original's ten batches of 1000


def count_images(
    session: Any,
    inference: Inference,
    images: np.ndarray,
    labels: np.ndarray,
    classes: int,
    data: str,
    training: bool,
    interrupts: Interrupts,
    most_confident: MostConfident,
    replicas: Replicas = ALONE,
    columns: Optional[Sequence[int]] = None,
) -> Metrics:
    """Metrics over all images uint8 [N, 32, 32, 3], each on one device. Each process counts its part of them, and has
    the counts of all; `most_confident` sees its part. `columns` are the outputs that can be answers; None: all.

    Raises Stopped between two batches when a signal has come, UsageError where the images of `data` have given no
    result; see `check_evaluation`.
    """
    metrics, layer = Metrics(classes), None
    first, end = (len(images) * rank // replicas.ranks for rank in (replicas.rank, replicas.rank + 1))
    interrupts.raise_if_requested()
    for start in range(first, end, inference.images_a_run):
        interrupts.raise_if_requested()
        batch = slice(start, min(start + inference.images_a_run, end))
        logits = inference.run(session, images[batch])
        answered = metrics.update(logits if columns is None else logits[:, list(columns)], labels[batch])
        most_confident.update(np.arange(batch.start, batch.stop), labels[batch], answered)
        if metrics.non_finite and layer is None:
            layer = inference.first_not_finite(session, images[batch])
    metrics, stopping = replicas.merged(session, metrics, interrupts.requested is not None)
    replicas.agree(stopping)
    check_evaluation(metrics, data, layer, training)
    return metrics


def write_pictures(
    log: RunLog, folder: Path, most_confident: MostConfident, data: Cifar10, names: Sequence[str]
) -> None:
    """examples.json, of the test images with their classes' names; a line in the log where it cannot be written."""

    def picture(index: int) -> Tuple[str, bytes]:
        return "image/png", png.encode(data.test_images[index])

    write = functools.partial(write_examples, folder, most_confident, names, picture)
    disk_errors.optional(write, folder / FILE, log)


def batch_size(config: RunConfig, images: int, count: int) -> int:
    """Images a step and device: --eval-batch-size; or as many steps as the documented --test_iteration asks for; never
    more than the part of one of `count` devices.
    """
    part = -(-images // count)
    if config.test_iteration:
        return -(-part // config.test_iteration)
    return min(config.eval_batch_size or BATCH_SIZE, part)


def evaluate(config: RunConfig, interrupts: Interrupts) -> None:
    """The mode `evaluate`: one checkpoint on the test images. Writes result.json under the output folder."""
    started, begin = now(), time.time()

    # -- What is evaluated ---------------------------------------------------------------------------------
    found = checkpoints.find(named_weights(config, checkpoints.WEIGHTS + ".index"))
    state = found.state
    if state:
        check_stored(found)
    data, remark = run_setup.load_data(config, state)
    own = Classes(data.label_names)
    outputs = checkpoints.classes(found) or own  # a checkpoint without a head is refused when it is restored
    matched = match(outputs, own, "check --data-path and label_names in batches.meta")
    matched = matched.for_evaluation(config.restrict_classes)
    recipe = CifarRecipe.from_json(state["recipe"]) if state else run_setup.choose_recipe(config, data)
    network = run_setup.network(config, recipe, state, len(outputs.names))
    # The statistics that the network was trained with; a bare TensorFlow checkpoint has none: this training set's.
    normalise = Normalisation(**state["normalisation"]) if state else Normalisation.from_images(data.train_images)

    # -- Device and graph ----------------------------------------------------------------------------------
    device = _device(config, recipe, state)
    run_setup.check_devices(device, network)
    folder = _folder(config) if device.rank == 0 else None  # the others write nothing
    if config.batch_size:
        config = dataclasses.replace(config, eval_batch_size=config.batch_size)
    with RunLog(folder) as log, tf.Graph().as_default(), device.connected() as replicas:
        notes = [f"note: {note}" for note in [*matched.notes, *device.notes]]
        for line in [
            remark,
            *found.notes,
            f"checkpoint: {found.prefix}",
            f"device: {device.kind}, {device.name}",
            *notes,
        ]:
            log.line(line)
        if folder:
            run_setup.write_config(folder, config, recipe, network, device, data)
        inference = Inference(
            network, normalise, batch_size(config, len(data.test_images), device.count), reuse=False, replicas=replicas
        )
        variables = model_variables()
        found = found.moved_with(config.output_dir)
        with tf1.Session(config=device.session_config()) as session:
            checkpoints.restore_weights(session, found, variables)
            replicas.align(session)

            # -- Count -------------------------------------------------------------------------------------
            most_confident = MostConfident()
            metrics = count_images(
                session,
                inference,
                data.test_images,
                matched.labels(data.test_labels),
                len(matched.names),
                data.path,
                False,
                replicas.interrupts(interrupts),
                most_confident,
                replicas,
                matched.columns,
            )
            interrupts.raise_if_requested()
        if folder is None:
            return
        log_evaluation(log, (state or {}).get("progress", {}).get("step", 0), metrics)
        write_pictures(log, folder, most_confident, data, matched.names)
        result = records.build_record(
            half="tf_seresnet",
            mode="evaluate",
            network=recipe.network,
            recipe=recipe.name,
            depth=network.depth,
            variant=network.variant,
            layers=network.layers,
            dataset=run_setup.describe_data(data),
            device=device.describe(),
            machine=provenance.machine(),
            precision=device.precision,
            batch_size=inference.batch_size,
            global_batch_size=inference.batch_size * device.count,
            evaluation=dict(
                records.evaluation_part(metrics, found.prefix), **records.evaluated_classes(matched, data.label_names)
            ),
            parameters=parameters(),
            versions=run_setup.versions(),
            started=started,
            seconds=time.time() - begin,
        )
        records.write_record(folder / "result.json", result)
        log.line(records.evaluation_line(metrics))
        log.succeeded()
        log.line(f"record: {folder / 'result.json'}")
        log.line("\n" + render(beside_documented(result)).rstrip())


def _folder(config: RunConfig) -> Path:
    """Where the record goes. Raises UsageError for the folder of a training, whose record is not to be replaced."""
    folder = run_folder(config.output_dir, "evaluate")
    if (folder / "checkpoints").exists():
        raise UsageError(f"{folder} holds a training run; choose another folder for the evaluation with --output-dir")
    set_aside(folder, "tf_seresnet", "evaluate")
    return folder


def _device(config: RunConfig, recipe: CifarRecipe, state: Optional[Dict[str, Any]]) -> Any:
    """The device, with the precision of the training where that was on the same kind of device, else float32."""
    device = devices.open_from(config, config.precision or "O0", None)
    if config.precision is None and state is not None and state["device"]["kind"] == device.kind:
        return devices.open_from(config, recipe.precision, None)
    return device
