"""The modes `train` and `finetune`: one straight line from the configuration to the record."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Iterator, List, Optional, Tuple

import torch

from shared.checkpoint.folder import Found
from shared.errors import DataError
from shared.metrics import Metrics
from shared.results import record as records
from shared.run import disk_errors
from shared.run.history import History
from shared.run.loop import Run
from shared.system.signals import Interrupts
from torch_imagenet.devices.device import Device
from torch_imagenet.distributed.process_group import Ranks
from torch_imagenet.evaluation import Evaluator
from torch_imagenet.input_pipeline.loader import BadImages, Batch, EvaluationInput, TrainingInput
from torch_imagenet.options import RunConfig
from torch_imagenet.run import checkpoints, description, dry_run
from torch_imagenet.run.layout import probed
from torch_imagenet.run.log_lines import LogLines, log_lines
from torch_imagenet.run.setup import TrainingSetup
from torch_imagenet.step.training_step import TrainingStep
from torch_imagenet.weights import source


def train(config: RunConfig, device: Device, ranks: Ranks, interrupts: Interrupts) -> None:
    """Train and evaluate. Raises UsageError where the user can mend it, Stopped after a signal, with a checkpoint."""
    history = History()

    # -- What runs ---------------------------------------------------------------------------------------------
    config, found, weights = ranks.broadcast_result(lambda: source.origin(config))
    setup = TrainingSetup.from_config(config, device, ranks, found, weights)
    data = setup.data
    ranks.require_equal("data set", data.content.fingerprint)
    ranks.require_equal("order of the images", data.train.order)
    setup, layout = probed(setup)
    batches, images = TrainingInput.from_setup(setup), EvaluationInput.from_setup(setup, data.content.val)
    if not config.dry_run:
        _begin(batches, setup)
    step, origin = _training_step(setup, found, weights)

    lines, name = [*data.lines, *layout, *origin], f"{setup.spec.name}-{config.mode}"
    if config.dry_run:
        dry_run.training(setup, step, lines, found.folder if found else None)
        return

    # -- Where it is written; from here on something is left behind --------------------------------------------
    with description.open_run(setup, lines, name, found.folder if found else None, weights) as (folder, log):
        description.log_setup(log, setup, step)
        form = log_lines(setup)
        log.line(f"output: {folder}")

        # -- Train and evaluate --------------------------------------------------------------------------------
        bad = BadImages(log, setup.state["bad_images"] if setup.state else (), ranks)
        constant = description.for_checkpoint(setup)
        write = checkpoints.writer(folder, config.keep, step, constant, bad) if ranks.is_first else None
        history = history.continued(setup.state, constant)
        run = Run(setup.plan, step, log, interrupts, folder, write, setup.state, ranks, bad.receive, history)
        with batches, images, run:
            evaluator = Evaluator(setup, images, interrupts, log)
            for _ in run.epochs():
                _train_epoch(run, setup, step, batches, bad, form)
                metrics = run.evaluate(partial(step.evaluate, evaluator.count))
                log.lines(form.evaluation(metrics, run))
                best = run.end_epoch(metrics)
                if config.original_names and ranks.is_first:
                    whole = {**constant, **run.state(), "bad_images": sorted(bad.known)}
                    also = partial(checkpoints.save_with_original_names, folder, whole, step, best)
                    with run.clock.paused():
                        disk_errors.optional(also, folder, log)
            if ranks.is_first:
                evaluator.write_examples(folder)

        # -- Record --------------------------------------------------------------------------------------------
        if ranks.is_first:
            _record(setup, run, step, metrics, len(bad.known), len(evaluator.bad.known))
            log.lines(form.last())


def _begin(batches: TrainingInput, setup: TrainingSetup) -> None:
    """Let the data workers decode the first batches while the network is made."""
    done, plan = setup.state["progress"] if setup.state else {"epoch": 0, "step_in_epoch": 0, "step": 0}, setup.plan
    if done["step_in_epoch"] < plan.steps_per_epoch and done["step"] < plan.total_steps:
        batches.begin(done["epoch"], done["step_in_epoch"] * setup.recipe.accumulate)


def _train_epoch(
    run: Run, setup: TrainingSetup, step: TrainingStep, batches: TrainingInput, bad: BadImages, form: LogLines
) -> None:
    """What is left of this epoch's training."""
    epoch, schedule = run.progress.epoch, setup.recipe.schedule
    if run.progress.step_in_epoch == 0 and run.progress.step < run.plan.total_steps:
        run.log.line(form.before_epoch(epoch, schedule.at(epoch)))
    for group in run.steps(partial(_groups, run, setup, batches, bad)):
        position, rate = run.progress.step_in_epoch + run.ahead, schedule.at(run.position)
        run.count(step.run(group, rate, epoch, position) if group else step.left_out())
        if run.should_sync():  # the one place that waits for the device
            run.read()
        if run.should_log():
            run.log_step(rate, form.step, **step.loss_scale.events())
        else:
            run.log.advance_bar()
        if run.should_save():
            run.save()
    run.log_epoch(form.after_epoch)


def _groups(run: Run, setup: TrainingSetup, images: TrainingInput, bad: BadImages) -> Iterator[List[Batch]]:
    """The batches of each step that is left of the epoch, those without enough images left out."""
    epoch, done, size, least = (
        run.progress.epoch,
        run.progress.step_in_epoch,
        setup.recipe.accumulate,
        setup.least_batch,
    )
    batches = images.epoch(epoch, done * size)
    while True:
        group = list(itertools.islice(batches, size))
        for batch in group:
            bad.note(batch.bad)
            for line in batch.notes:
                run.log.line(line)
        readable = [batch for batch in group if len(batch.labels) >= least]
        if not readable:
            what = f"step {run.progress.step + run.ahead + 1} has no batch of {least} images that can be read"
            if setup.ranks.size > 1:  # the others are about to take it
                raise DataError(f"{what}; run check-data on the data set")
            run.log.line(f"note: {what}; it is left out")
        yield readable


def _training_step(
    setup: TrainingSetup, found: Optional[Found], weights: Optional[source.FoundWeights]
) -> Tuple[TrainingStep, List[str]]:
    """The network with resumed, loaded or fresh weights, the same on all devices, and what the log says of them."""
    torch.manual_seed(setup.recipe.seed)
    network, origin = setup.spec.make(setup.recipe.zero_init), []
    if weights is not None:
        head = source.head(weights, setup.data.classes, setup.config)
        origin = source.load(weights, network, setup.spec, head) if setup.ranks.is_first else []
        origin += [f"note: {line}" for line in setup.recipe.overwritten()]
    old = weights.run if weights is not None and setup.ranks.is_first else None
    loaded = {name: value.clone() for name, value in network.state_dict().items()} if old else {}
    step = TrainingStep(network, setup)
    if old:
        origin += old.load(step, loaded, setup)
    if found and setup.ranks.is_first:
        checkpoints.load_training(step, found.folder)
        origin = [*found.notes, f"resumed: {found.folder} at step {found.state['progress']['step']}"]
    step.broadcast()
    return step, origin


def _record(
    setup: TrainingSetup, run: Run, step: TrainingStep, metrics: Metrics, bad_images: int, skipped: int
) -> None:
    """Write model.pth and result.json."""
    folder = run.folder
    assert folder is not None
    model, names = folder / checkpoints.MODEL, setup.data.classes.stored()
    weights, recipe = step.evaluated_weights(), setup.recipe.to_json()
    disk_errors.required(lambda: checkpoints.save_model(model, weights, names, recipe), model)
    record = description.build_record(
        setup,
        step.network,
        bad_images=bad_images,
        evaluation=records.evaluation_part(metrics, str(folder / "checkpoints" / "last"), skipped),
        peak_memory=setup.device.peak_memory(),
        seed=setup.recipe.seed,
        schedule=setup.recipe.schedule.describe(),
        **description.of_steps(setup),
        **run.record(),
    )
    records.finish(run.log, folder, record, metrics, disk_errors.advice(folder))
