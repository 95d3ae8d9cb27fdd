"""The mode `train`: one straight line from the config to the record."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any, List, Optional, Tuple

import tensorflow as tf

from shared.results.record import finish
from shared.run import disk_errors
from shared.run.example_predictions import MostConfident
from shared.run.folder import open_folder
from shared.run.history import History
from shared.run.log import RunLog
from shared.run.loop import Run
from shared.system.garbage import collection_paused
from shared.system.signals import Interrupts
from tf_seresnet import evaluation
from tf_seresnet.devices.replicas import Replicas
from tf_seresnet.network import ends_of_branches
from tf_seresnet.options import RunConfig
from tf_seresnet.run import checkpoints, description, dry_run, log_lines, old_run
from tf_seresnet.run.setup import RunSetup
from tf_seresnet.step import variables
from tf_seresnet.step.graph import Inference
from tf_seresnet.step.input_pipeline import TrainingInput
from tf_seresnet.step.training_step import TrainingStep

tf1 = tf.compat.v1


def train(config: RunConfig, interrupts: Interrupts) -> None:
    """Train and evaluate. Raises UsageError where the user can mend it, Stopped after a signal, with a checkpoint."""
    history = History()
    # -- What runs -------------------------------------------------------------------------------------------------
    setup = RunSetup.from_config(config)
    setup.check_inference()
    # -- Where it is written ---------------------------------------------------------------------------------------
    folder, notes = _open_folder(setup)
    with RunLog(folder, setup.resumed_step) as log, tf.Graph().as_default(), setup.device.connected() as replicas:
        for line in [setup.data_remark, *setup.config.command_notes, *notes]:
            log.line(line)
        if folder:
            disk_errors.optional(lambda: description.write_config(setup, folder), folder / "config.json", log)
        with collection_paused():
            batches, step, inference = _build_graph(setup, replicas)
        description.log_setup(log, setup, batches.left_out, folder)
        with tf1.Session(config=setup.device.session_config()) as session:
            _initialise(session, setup, step, log)
            replicas.align(session)
            step.begin(session)
            if config.dry_run:
                log.lines(dry_run.of_training(setup))
                return
            constant = description.for_checkpoint(setup)
            state = setup.resumed_state
            history = history.continued(state, constant)
            write = checkpoints.writer(session, folder, setup.config.keep, constant) if folder else None
            save = step.average.applied(session, write) if write else None
            # -- Train and evaluate --------------------------------------------------------------------------------
            with Run(setup.plan, step, log, interrupts, folder, save, state, replicas, history=history) as run:
                for epoch in run.epochs():
                    start = functools.partial(batches.start_epoch, session, epoch, run.progress.step_in_epoch)
                    for _ in run.steps(start, timed=False):
                        rate = setup.recipe.schedule.at(run.position)
                        run.count(step.queue(rate, interrupts.requested is not None))
                        if run.should_sync():  # one session call for all steps since the last one
                            steps = run.read(check=run.should_log())
                            replicas.agree(step.stopping)
                            log_lines.log_advice(run, setup, steps)
                        if run.should_log():
                            run.log_step(rate, log_lines.step_line)
                        else:
                            log.advance_bar()
                        if run.should_save():
                            run.save()
                    run.log_epoch(functools.partial(log_lines.seconds_line, setup.global_batch_size))
                    examples = MostConfident()
                    count = functools.partial(evaluation.count_images, session, setup, inference, interrupts, examples)
                    metrics = run.evaluate(step.average.applied(session, count))
                    log.line(log_lines.epoch_line(run, metrics))
                    run.end_epoch(metrics)
            # -- Record --------------------------------------------------------------------------------------------
            if folder is None:
                return
            model, own = folder / "model.ckpt", variables.model_variables()
            last = functools.partial(checkpoints.save_weights, session, model, own, setup.data.label_names)
            disk_errors.required(step.average.applied(session, last), model)
            evaluation.write_pictures(log, folder, examples, setup)
            record = description.of_training(setup, run, metrics, folder)
            finish(log, folder, record, metrics, disk_errors.advice(folder))


def _open_folder(setup: RunSetup) -> Tuple[Optional[Path], List[str]]:
    """The folder of the run, and a line for the log where an earlier run was moved; see `open_folder`.

    None where nothing is written: of the other ranks, and of a dry run.
    """
    if setup.device.rank > 0 or setup.config.dry_run:
        return None, []
    found = setup.checkpoint if setup.resumed_state else None
    resumed = Path(found.prefix).parent if found else None
    folder, notes = open_folder("tf_seresnet", "train", setup.recipe.network, setup.config.output_dir, resumed)
    checkpoints.native(os.path.abspath(str(folder)))
    return folder, notes


def _build_graph(setup: RunSetup, replicas: Replicas) -> Tuple[TrainingInput, TrainingStep, Inference]:
    images, labels, workers = setup.data.train_images, setup.data.train_labels, setup.config.workers or 2
    batches = TrainingInput.on_device_or_host(
        images, labels, setup.normalisation, setup.recipe, setup.device, replicas, workers
    )
    step = TrainingStep(setup.network, batches, setup.steps_per_call)
    return batches, step, evaluation.open_inference(setup, replicas, reuse=True)


def _initialise(session: Any, setup: RunSetup, step: TrainingStep, log: RunLog) -> None:
    """Give every variable its value: a new one, that of the given weights or that of the run to resume."""
    recipe = setup.recipe
    zeros = ends_of_branches(recipe.depth, recipe.variant) if recipe.zero_init else []
    variables.initialise(session, recipe.seed, zeros)
    found, classes = setup.checkpoint, setup.classes
    if found is None:
        return
    if setup.resumed_state and "old_log" in setup.resumed_state:
        lines = [*found.notes, *old_run.restore(session, setup, found.moved_with(setup.config.output_dir))]
    elif setup.resumed_state:
        checkpoints.restore(session, found, checkpoints.saved_variables())
        step.average.swap(session)
        lines = [*found.notes, f"resumed: {found.prefix} at step {setup.resumed_state['progress']['step']}"]
    else:
        found = found.moved_with(setup.config.output_dir)
        outputs = None if classes.in_place else classes.outputs
        checkpoints.restore(session, found, variables.model_variables(), outputs)
        notes = (*classes.notes, *recipe.overwritten())
        lines = [f"weights: {found.prefix}", *(f"note: {note}" for note in notes)]
    for line in lines:
        log.line(line)
