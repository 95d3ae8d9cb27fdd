"""Exact evaluation: every test image once, with the moving averages, at any batch size."""

from __future__ import annotations

import tensorflow as tf

from shared.results import record as records
from shared.run.example_predictions import MostConfident
from shared.run.history import History
from shared.run.log import RunLog
from shared.system.signals import Interrupts
from tf_seresnet.devices.replicas import Replicas
from tf_seresnet.options import RunConfig
from tf_seresnet.run import checkpoints, description, dry_run
from tf_seresnet.run.counting import batch_size, count_images, open_folder, write_pictures
from tf_seresnet.run.setup import RunSetup
from tf_seresnet.step import variables
from tf_seresnet.step.graph import Inference

tf1 = tf.compat.v1


def evaluate(config: RunConfig, interrupts: Interrupts) -> None:
    """The mode `evaluate`: one checkpoint on the test images. Writes result.json to the output folder."""
    history = History()
    # -- What is evaluated -----------------------------------------------------------------------------------------
    setup = RunSetup.from_config(config)
    assert setup.checkpoint is not None
    device = setup.device
    # -- Where it is written ---------------------------------------------------------------------------------------
    writes = device.rank == 0 and not config.dry_run
    folder = open_folder(config) if writes else None  # the other ranks write nothing
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
        result = description.build_record(
            setup,
            metrics,
            checkpoint.prefix,
            batch_size=inference.batch_size,
            global_batch_size=inference.batch_size * device.count,
            **history.record(),
        )
        records.finish(log, folder, result, metrics)


def open_inference(setup: RunSetup, replicas: Replicas, reuse: bool) -> Inference:
    """The network's inference in the default graph; `reuse` shares the variables of its training."""
    return Inference(setup.network, setup.normalisation, batch_size(setup), reuse, replicas)
