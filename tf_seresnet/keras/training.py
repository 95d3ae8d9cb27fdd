"""The mode `train` of `--layers keras`: the recipe, through Keras 3 on TensorFlow, JAX or torch. See `training`."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

import numpy as np

from shared.checkpoint.folder import CheckpointFolder
from shared.errors import UsageError
from shared.results.record import finish
from shared.run import disk_errors
from shared.run.divergence import first_not_finite
from shared.run.example_predictions import MostConfident
from shared.run.folder import open_folder
from shared.run.history import History
from shared.run.log import RunLog
from shared.run.loop import Run
from shared.run.progress import not_a_number
from shared.system.signals import Interrupts
from tf_seresnet.keras.checkpoint import graph_variables
from tf_seresnet.keras.step import Tensors, TrainingModel
from tf_seresnet.keras.training_step import KerasInference, KerasStep, build
from tf_seresnet.options import RunConfig
from tf_seresnet.run import checkpoints, counting, description, dry_run, log_lines
from tf_seresnet.run.setup import RunSetup

WEIGHTS = "model.weights.h5"  # the final ones


def train(config: RunConfig, interrupts: Interrupts) -> None:
    """Train and evaluate. Raises UsageError where the user can mend it, Stopped after a signal, with a checkpoint."""
    history = History()
    setup = RunSetup.from_config(config)
    if setup.resumed_state and "old_log" in setup.resumed_state:
        raise UsageError("an old port's run goes on in a graph; leave out --layers keras")
    folder, notes = _open_folder(setup)
    with RunLog(folder, setup.resumed_step) as log:
        log.lines([setup.data_remark, *setup.config.command_notes, *notes])
        if folder:
            disk_errors.optional(lambda: description.write_config(setup, folder), folder / "config.json", log)
        network, backend = build(setup)
        step = KerasStep(setup, network, backend)
        inference = KerasInference(network, setup, backend, counting.batch_size(setup))
        description.log_setup(log, setup, 0, folder)
        log.lines(_restored(setup, step))
        if config.dry_run:
            log.lines(dry_run.of_training(setup))
            return
        constant = description.for_checkpoint(setup)
        state = setup.resumed_state
        history = history.continued(state, constant)
        save = _writer(step, CheckpointFolder(folder, config.keep), constant) if folder else None
        with Run(setup.plan, step, log, interrupts, folder, save, state, history=history) as run:
            for epoch in run.epochs():
                start = functools.partial(step.start_epoch, epoch, run.progress.step_in_epoch)
                for number in run.steps(start, timed=False):
                    rate = setup.recipe.schedule.at(run.position)
                    run.count((number, rate))
                    if run.should_sync():
                        log_lines.log_advice(run, setup, run.read())
                    if run.should_log():
                        run.log_step(rate, log_lines.step_line)
                    else:
                        log.advance_bar()
                    if run.should_save():
                        run.save()
                run.log_epoch(functools.partial(log_lines.seconds_line, setup.global_batch_size))
                examples, values = MostConfident(), step.evaluated()
                count = functools.partial(counting.count_images, values, setup, inference, interrupts, examples)
                metrics = run.evaluate(count)
                log.line(log_lines.epoch_line(run, metrics))
                run.end_epoch(metrics)
        if folder is None:
            return
        disk_errors.required(lambda: _write_weights(network, values, folder / WEIGHTS), folder / WEIGHTS)
        counting.write_pictures(log, folder, examples, setup)
        finish(log, folder, description.of_training(setup, run, metrics, folder), metrics, disk_errors.advice(folder))


def _open_folder(setup: RunSetup) -> Tuple[Optional[Path], List[str]]:
    """The folder of the run, None of a dry run, and a line for the log where an earlier run was moved."""
    if setup.config.dry_run:
        return None, []
    resumed = Path(setup.checkpoint.prefix).parent if setup.checkpoint and setup.resumed_state else None
    return open_folder("tf_seresnet", "train", setup.recipe.network, setup.config.output_dir, resumed)


def _restored(setup: RunSetup, step: KerasStep) -> List[str]:
    """Give the network the weights of the checkpoint, or all that training changes; lines for the log."""
    found = setup.checkpoint
    if found is None:
        return []
    found = found.moved_with(setup.config.output_dir)
    arrays = step.arrays()
    if setup.resumed_state is None:
        own = [*step.network.weights, *step.network.others]
        outputs = None if setup.classes.in_place else setup.classes.outputs
        step.restore(checkpoints.read(found, {name: list(arrays[name].shape) for name in own}, outputs))
        notes = (*setup.classes.notes, *setup.recipe.overwritten())
        return [f"weights: {found.prefix}", *(f"note: {note}" for note in notes)]
    step.restore(checkpoints.read(found, {name: list(array.shape) for name, array in arrays.items()}))
    return [*found.notes, f"resumed: {found.prefix} at step {setup.resumed_state['progress']['step']}"]


def _writer(
    step: KerasStep, kept: CheckpointFolder, constant: Dict[str, Any]
) -> Callable[[Dict[str, Any], bool], Path]:
    """What writes a checkpoint. It raises UsageError where a number is not finite, OSError as the disk does."""

    def write(state: Dict[str, Any], best: bool) -> Path:
        number, arrays = state["progress"]["step"], step.arrays()
        where = first_not_finite(arrays.items())
        if where:
            raise not_a_number(f"a weight is not a number after step {number}{where}")

        def files(place: Path) -> None:
            np.savez(str(place / checkpoints.ARRAYS), **arrays)  # type: ignore[arg-type]

        return kept.save(number, files, {**constant, **state}, best)

    return write


def _write_weights(network: TrainingModel, values: Tensors, path: Path) -> None:
    """Write the final weights in Keras' usual file, for `load_weights` of the same model. Raises OSError."""
    for name, variable in graph_variables(network.model).items():
        variable.assign(values[name])
    temporary = path.with_name(f".{path.name}")  # whose end says to Keras what it is
    network.model.save_weights(str(temporary))
    os.replace(str(temporary), str(path))
