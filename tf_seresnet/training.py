"""The mode `train`: one straight line from the config to the record."""

from __future__ import annotations

import functools
import os
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence, Tuple

import tensorflow as tf

from shared.metrics import Metrics
from shared.results.record import evaluation_part, finish
from shared.run import disk_errors
from shared.run.example_predictions import MostConfident
from shared.run.folder import open_folder
from shared.run.log import RunLog, now
from shared.run.loop import Run
from shared.system.signals import Interrupts
from tf_seresnet import checkpoints, evaluation, input_pipeline, log_lines
from tf_seresnet.options import RunConfig
from tf_seresnet.run_setup import RunSetup
from tf_seresnet.step import variables
from tf_seresnet.step.inference import Inference
from tf_seresnet.step.replicas import Replicas
from tf_seresnet.step.training_step import TrainingStep

tf1 = tf.compat.v1


def train(config: RunConfig, interrupts: Interrupts) -> None:
    """Train and evaluate as the config says; everything is written to the folder of the run.

    Raises UsageError for what the user can mend, Stopped after a signal, with a checkpoint written.
    """
    started, begin = now(), time.time()
    # -- What runs -------------------------------------------------------------------------------------------------
    setup = RunSetup.from_config(config)
    recipe, data = setup.recipe, setup.data
    # -- Where it is written ---------------------------------------------------------------------------------------
    folder, notes = _open_folder(setup) if setup.device.rank == 0 else (None, [])  # the other ranks write nothing
    with RunLog(folder, setup.resumed_step) as log, tf.Graph().as_default(), setup.device.connected() as replicas:
        for line in [setup.data_remark, *notes]:
            log.line(line)
        if folder:
            disk_errors.optional(lambda: setup.write_config(folder), folder / "config.json", log)
        batches, step, inference = _build_graph(setup, replicas)
        log_lines.log_setup(log, setup, batches.left_out, folder)
        with tf1.Session(config=setup.device.session_config()) as session:
            _initialise(session, setup, log)
            replicas.align(session)
            step.begin(session)
            stops = replicas.interrupts(interrupts)
            save = _checkpoint_writer(session, setup, folder) if folder else None
            # -- Train and evaluate --------------------------------------------------------------------------------
            with Run(setup.plan, step, log, stops, folder, save, setup.resumed_state) as run:
                for epoch in run.epochs():
                    rate = recipe.schedule.at(epoch)
                    start = functools.partial(batches.start_epoch, session, epoch, run.progress.step_in_epoch)
                    for _ in run.steps(start, timed=False):
                        # The session call returns when the step is done, so every step is read at once.
                        output = step.run(session, rate, stops.requested is not None)
                        replicas.agree(output.stopping)
                        run.count(output, output.data_wait)
                        run.read(check=run.should_log())
                        if run.should_log():
                            run.log_step(rate, log_lines.step_line)
                        else:
                            log.advance_bar()
                        if run.should_save():
                            run.save()
                        log_lines.log_advice(run, setup)
                    run.log_epoch()
                    examples = MostConfident()
                    count = functools.partial(
                        evaluation.count_images, session, inference, data, setup.own_classes, stops, replicas, examples
                    )
                    metrics = run.evaluate(functools.partial(count, training=True))
                    log.line(log_lines.epoch_line(run, metrics))
                    run.end_epoch(metrics)
            # -- Record --------------------------------------------------------------------------------------------
            if folder is None:
                return
            _save_weights(session, folder / "model.ckpt", data.label_names)
            evaluation.write_pictures(log, folder, examples, data, data.label_names)
            parts = {"parameters": variables.parameters(), "started": started, "seconds": time.time() - begin}
            result = _result(setup, run, metrics, str(folder / "checkpoints" / "last"), **parts)
            finish(log, folder, result, metrics, disk_errors.advice(folder))


def _open_folder(setup: RunSetup) -> Tuple[Path, List[str]]:
    """The folder of the run, and a line for the log where an earlier run was moved; see `open_folder`."""
    found = setup.checkpoint if setup.resumed_state else None
    resumed = Path(found.prefix).parent if found else None
    folder, notes = open_folder("tf_seresnet", "train", setup.recipe.network, setup.config.output_dir, resumed)
    checkpoints.native(os.path.abspath(str(folder)))
    return folder, notes


def _build_graph(setup: RunSetup, replicas: Replicas) -> Tuple[input_pipeline.TrainingInput, TrainingStep, Inference]:
    recipe, data, device = setup.recipe, setup.data, setup.device
    batches = input_pipeline.TrainingInput(
        data.train_images,
        data.train_labels,
        setup.normalisation,
        input_pipeline.Augmentation(recipe.crop_padding, recipe.flip),
        recipe.batch_size,
        recipe.seed,
        setup.config.workers or 2,
        device.static_shapes,
        device.times_data_wait,
        replicas,
    )
    step = TrainingStep(setup.network, batches, recipe, device, replicas)
    batch_size = evaluation.batch_size(setup.config, len(data.test_images), device.count)
    return batches, step, Inference(setup.network, setup.normalisation, batch_size, reuse=True, replicas=replicas)


def _initialise(session: Any, setup: RunSetup, log: RunLog) -> None:
    """Give every variable its value: a new one, that of the given weights or that of the run to resume."""
    variables.initialise(session, setup.recipe.seed)
    found, classes = setup.checkpoint, setup.classes
    if found is None:
        return
    if setup.resumed_state:
        checkpoints.restore_everything(session, found)
        lines = [*found.notes, f"resumed: {found.prefix} at step {setup.resumed_state['progress']['step']}"]
    else:
        found = found.moved_with(setup.config.output_dir)
        outputs = None if classes.in_place else classes.outputs
        checkpoints.restore_weights(session, found, variables.model_variables(), outputs)
        lines = [f"weights: {found.prefix}", *(f"note: {note}" for note in classes.notes)]
    for line in lines:
        log.line(line)


def _checkpoint_writer(session: Any, setup: RunSetup, folder: Path) -> Callable[[Dict[str, Any], bool], Any]:
    """What writes a checkpoint of the session with the state of the run. Needs the complete graph."""
    saver, fixed = checkpoints.Checkpoints(folder, setup.config.keep), setup.checkpoint_state()
    return lambda state, best: saver.save(session, {**fixed, **state}, best)


def _save_weights(session: Any, path: Path, names: Sequence[str]) -> None:
    """The final weights in TensorFlow's usual form. Raises UsageError where the disk does not take them."""
    own = variables.model_variables()
    disk_errors.required(lambda: checkpoints.save_weights(session, path, own, names), path)


def _result(setup: RunSetup, run: Run, metrics: Metrics, checkpoint: str, **parts: Any) -> Dict[str, Any]:
    return setup.record(
        "train",
        seed=setup.recipe.seed,
        schedule=setup.recipe.schedule.describe(),
        batch_size=setup.recipe.batch_size,
        global_batch_size=setup.global_batch_size,
        evaluation=evaluation_part(metrics, checkpoint),
        **run.record(),
        **parts,
    )
