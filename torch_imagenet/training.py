"""The modes `train` and `finetune`: one straight line from the configuration to the record."""

from __future__ import annotations

import itertools
import time
from functools import partial
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Tuple

import torch

from shared.checkpoint.folder import Found
from shared.cli.signals import Interrupts
from shared.errors import DataError
from shared.metrics import Metrics
from shared.results import record as records
from shared.run import disk_errors, events
from shared.run.example_predictions import MostConfident
from shared.run.folder import open_folder
from shared.run.log import now, open_log
from shared.run.loop import Run
from torch_imagenet import checkpoints, description, evaluation, log_lines
from torch_imagenet.devices.device import Device
from torch_imagenet.distributed.process_group import Ranks
from torch_imagenet.input_pipeline import inputs
from torch_imagenet.input_pipeline.bad_images import BadImages
from torch_imagenet.input_pipeline.loader import Batch
from torch_imagenet.options import RunConfig
from torch_imagenet.run_setup import TrainingSetup
from torch_imagenet.step.training_step import TrainingStep
from torch_imagenet.weights import source
from torch_imagenet.weights.source import FoundWeights


def train(config: RunConfig, device: Device, ranks: Ranks, interrupts: Interrupts) -> None:
    """Train and evaluate as configured; everything is written under the run's folder, by rank 0.

    Raises UsageError where the user can mend it, Stopped after a signal, with a checkpoint written.
    """
    started, begin = now(), time.time()

    # -- What runs ---------------------------------------------------------------------------------------------
    config, found, weights = ranks.from_first(lambda: source.origin(config))
    setup = TrainingSetup.from_config(config, device, found, weights)
    recipe, data = setup.recipe, setup.data
    ranks.same("data set", data.content.fingerprint)
    ranks.same("order of the images", data.train.order)
    step, origin = _training_step(setup, found, weights, ranks)

    # -- Where it is written; from here on something is left behind --------------------------------------------
    resumed, name = found.folder if found else None, f"{setup.spec.name}-{config.mode}"
    folder, moved = ranks.from_first(
        lambda: open_folder("torch_imagenet", config.mode, name, config.output_dir, resumed)
    )
    first_step = setup.state["progress"]["step"] if setup.state else 0
    with open_log(folder, first_step, config.log_file, silent=not ranks.is_first) as log, ranks.listening(log.line):
        for line in [data.remark, *data.content.remarks, *moved, *origin]:
            log.line(line)
        if ranks.is_first:
            disk_errors.optional(lambda: description.write_config(setup, folder), folder / "config.json", log)
        events.log_start(log, recipe.to_json(), **description.hyper_parameters(setup))
        for line in [*description.introduction(setup, step), f"output: {folder}"]:
            log.line(line)

        # -- Train and evaluate --------------------------------------------------------------------------------
        bad, bad_in_evaluation = BadImages(log, setup.state["bad_images"] if setup.state else (), ranks), BadImages(log)
        constant = description.for_checkpoint(setup)
        write = checkpoints.writer(folder, config.keep, step, constant, bad) if ranks.is_first else None
        run = Run(setup.plan, step, log, interrupts, folder, write, setup.state, ranks, bad.receive)
        with inputs.training_input(setup, ranks) as batches, inputs.evaluation_input(setup, data, ranks) as images, run:
            for epoch in run.epochs():
                _train_epoch(run, setup, step, batches, bad, ranks)
                most_confident = MostConfident()
                count = partial(
                    evaluation.count_together, setup, images, ranks, interrupts, bad_in_evaluation, most_confident
                )
                metrics = run.evaluate(partial(step.evaluate, count))
                for line in log_lines.evaluation_lines(metrics, epoch + 1):
                    log.line(line)
                best = run.end_epoch(metrics)
                if config.original_names and ranks.is_first:
                    _save_with_original_names(run, setup, step, folder, best)
            if ranks.is_first:
                evaluation.write_pictures(log, folder, most_confident, data, images)

        # -- Record --------------------------------------------------------------------------------------------
        if ranks.is_first:
            images_left_out = {"bad_images": bad.count, "skipped": bad_in_evaluation.count}
            _record(setup, run, step, metrics, folder, images_left_out, started, time.time() - begin)


def _train_epoch(
    run: Run, setup: TrainingSetup, step: TrainingStep, batches: inputs.TrainingInput, bad: BadImages, ranks: Ranks
) -> None:
    """What is left of this epoch's training."""
    epoch = run.progress.epoch
    rate = setup.recipe.schedule.at(epoch)
    for group in run.steps(partial(_start_epoch, run, setup, batches, bad, ranks, rate)):
        position = run.progress.step_in_epoch + run.ahead
        run.count(step.run(group, rate, epoch, position) if group else step.left_out())
        if run.should_sync():  # the one place that waits for the device
            run.read()
        if run.should_log():
            run.log_step(rate, log_lines.step_line, **step.loss_scale.events())
        else:
            run.log.advance_bar()
        if run.should_save():
            run.save()
    run.log_epoch(log_lines.epoch_line)


def _record(
    setup: TrainingSetup,
    run: Run,
    step: TrainingStep,
    metrics: Metrics,
    folder: Path,
    left_out: Dict[str, int],
    started: str,
    seconds: float,
) -> None:
    """Write model.pth and result.json."""
    model, names = folder / checkpoints.MODEL, setup.data.classes.stored()
    disk_errors.required(lambda: checkpoints.save_model(model, step.evaluated_weights(), names), model, folder)
    result = records.build_record(
        bad_images=left_out["bad_images"],
        evaluation=records.evaluation_part(metrics, str(folder / "checkpoints" / "last"), left_out["skipped"]),
        peak_memory=setup.device.peak_memory(),
        started=started,
        seconds=seconds,
        **run.record(),
        **description.for_training_record(setup, step.network),
    )
    records.finish(run.log, folder, result, metrics, disk_errors.advice(folder))


def _training_step(
    setup: TrainingSetup, found: Optional[Found], weights: Optional[FoundWeights], ranks: Ranks
) -> Tuple[TrainingStep, List[str]]:
    """The network with resumed, loaded or fresh weights, the same on all devices, and what the log says of them."""
    torch.manual_seed(setup.recipe.seed)
    network, origin = setup.spec.make(), []
    if weights is not None:
        head = source.head(weights, setup.data.classes, setup.config)
        origin = source.load(weights, network, setup.spec, head) if ranks.is_first else []
    step = setup.training_step(network, ranks)
    if found and ranks.is_first:
        checkpoints.load_training(step, found.folder)
        origin = [*found.notes, f"resumed: {found.folder} at step {found.state['progress']['step']}"]
    step.broadcast()
    return step, origin


def _start_epoch(
    run: Run, setup: TrainingSetup, images: inputs.TrainingInput, bad: BadImages, ranks: Ranks, rate: float
) -> Iterator[List[Batch]]:
    """The batches of each step that is left of the epoch, those without enough images left out."""
    progress = run.progress
    if progress.step_in_epoch == 0:
        run.log.line(f"Learning rate of epoch #{progress.epoch + 1} is {rate:.5f}")
    batches = images.epoch(progress.epoch, progress.step_in_epoch * setup.recipe.accumulate)
    return _groups(run, setup, batches, bad, ranks)


def _groups(
    run: Run, setup: TrainingSetup, batches: Iterator[Batch], bad: BadImages, ranks: Ranks
) -> Iterator[List[Batch]]:
    while True:
        group = list(itertools.islice(batches, setup.recipe.accumulate))
        for batch in group:
            bad.note(batch.bad)
            for line in batch.notes:
                run.log.line(line)
        least = setup.least_batch
        readable = [batch for batch in group if len(batch.labels) >= least]
        if not readable:
            what = f"step {run.progress.step + run.ahead + 1} has no batch of {least} images that can be read"
            if ranks.size > 1:  # the others are about to take it
                raise DataError(f"{what}; run check-data on the data set")
            run.log.line(f"note: {what}; it is left out")
        yield readable


def _save_with_original_names(run: Run, setup: TrainingSetup, step: TrainingStep, folder: Path, best: bool) -> None:
    write = partial(
        checkpoints.save_with_original_names,
        folder,
        setup.spec.name,
        run.progress.epoch,
        step.evaluated_weights(),
        step.optimizer.state_dict(),
        run.progress.best_top1,
        best,
        setup.data.classes.stored(),
    )
    with run.clock.paused():
        disk_errors.optional(write, folder, run.log)
