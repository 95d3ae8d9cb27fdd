"""The modes `train` and `finetune`: one straight line from the options to the record."""

from __future__ import annotations

import contextlib
import time
from functools import partial
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import torch

from shared.checkpoint.folder import CheckpointFolder, Found
from shared.cli.signals import Interrupts
from shared.metrics import Metrics
from shared.recipes import document
from shared.recipes.imagenet import ImageNetRecipe
from shared.results import record as records
from shared.run import disk_errors, provenance
from shared.run.clock import Clock
from shared.run.events import log_start
from shared.run.examples import MostConfident
from shared.run.folder import is_run_of, run_folder, set_aside
from shared.run.log import RunLog, now, open_log
from shared.run.progress import Progress
from shared.text import in_utf8
from torch_imagenet import checkpoints, evaluation, run_setup
from torch_imagenet.checkpoints import load_training
from torch_imagenet.devices.device import Device
from torch_imagenet.devices.precision import precision
from torch_imagenet.distributed.process_group import Ranks
from torch_imagenet.input_pipeline.bad_images import BadImages
from torch_imagenet.input_pipeline.loader import EvaluationInput, TrainingInput
from torch_imagenet.loop import Loop, Plan
from torch_imagenet.networks.spec import NetworkSpec
from torch_imagenet.options import RunConfig, patience, workers
from torch_imagenet.step.losses import smoothing_text
from torch_imagenet.step.normalisation import Normalisation
from torch_imagenet.step.training_step import TrainingStep, needs_host
from torch_imagenet.training_setup import Setup, origin_of
from torch_imagenet.weights import source


def train(config: RunConfig, device: Device, ranks: Ranks, interrupts: Interrupts) -> None:
    """Train and evaluate as the options say; everything is written under the run's folder, by the first process.

    Raises UsageError where the user can mend it, Stopped after a signal, with a checkpoint written.
    """
    started, begin = now(), time.time()

    # -- Checkpoint to resume, data, recipe, network -----------------------------------------------------------
    config, found, given = ranks.from_first(lambda: origin_of(config))
    setup = Setup.of(config, device, found, given)
    recipe, spec, data, plan = setup.recipe, setup.spec, setup.data, setup.plan
    ranks.same("data set", data.content.fingerprint)
    ranks.same("order of the images", data.train.order)
    state = found.state if found else None
    level = precision(recipe.precision)
    progress = Progress(**state["progress"]) if state else Progress()

    # -- Network: fresh, given or resumed ----------------------------------------------------------------------
    torch.manual_seed(recipe.seed)
    network = spec.make()
    kept = source.head(given, data.classes, config) if given is not None else None
    origin = source.load(given, network, spec, kept) if given is not None and kept and ranks.is_first else []
    memory_format = device.memory_format(spec.name, config.memory_format)
    normalise = run_setup.normalisation(spec, device, level, memory_format)
    step = TrainingStep(
        network,
        recipe,
        spec.num_classes,
        device,
        level,
        normalise,
        memory_format,
        spec.head,
        config.compile,
        ranks,
        config.sync_bn,
    )
    if found and ranks.is_first:
        load_training(step, found.folder)
        origin = [*found.notes, f"resumed: {found.folder} at step {progress.step}"]
    arithmetic = run_setup.arithmetic(device, memory_format, config.compile)
    remarks = [*recipe.schedule.remarks(), *(run_setup.resumption_remarks(state, recipe, arithmetic) if state else [])]
    step.broadcast()

    # -- Folder and log; from here on something is left behind -------------------------------------------------
    folder, aside = ranks.from_first(lambda: _folder(config, spec, found))
    with open_log(folder, progress.step, config.log_file, silent=not ranks.is_first) as log, ranks.listening(log.line):
        moved = [f"note: the run that was in {folder} is now in {aside}"] if aside else []
        for line in [data.remark, *data.content.remarks, *moved, *origin]:
            log.line(line)
        if ranks.is_first:
            write_config = partial(run_setup.write_config, folder, config, recipe, spec, device, data)
            disk_errors.optional(write_config, folder / "config.json", log)
        log_start(
            log,
            recipe.to_json(),
            dataset=data.content.name,
            device=f"{device.count} x {device.name}",
            global_batch_size=recipe.batch_size * recipe.accumulate * device.count,
            memory_format=memory_format,
        )
        _introduce(log, device, recipe, spec, step, plan, remarks, folder)

        # -- Train and evaluate --------------------------------------------------------------------------------
        clock = Clock.from_state(state["clock"], device.warm_up_steps) if state else Clock(device.warm_up_steps)
        bad = BadImages(log, state["bad_images"] if state else (), ranks)
        run_state = _run_state(config.mode, recipe, spec, data, device, arithmetic)
        saver = _Saver(folder, config, step, bad, run_state, ranks)
        with _training_input(config, recipe, data, device, ranks) as batches, _evaluation_input(
            config, recipe, spec, data, device, ranks
        ) as validation:
            evaluator = _Evaluator(step, validation, data.content.path, spec, device, normalise, interrupts, log, ranks)
            metrics = Loop(
                step,
                batches,
                evaluator.run,
                saver.save,
                saver.epoch_done,
                folder,
                recipe,
                plan,
                progress,
                clock,
                log,
                interrupts,
                bad,
                ranks,
            ).run()
            if ranks.is_first:
                evaluation.write_pictures(log, folder, evaluator.most_confident, data, validation)
        if not ranks.is_first:
            return
        model, names = folder / checkpoints.MODEL, data.classes.stored()
        disk_errors.required(lambda: checkpoints.save_model(model, step.evaluated_weights(), names), model, folder)

        # -- Record --------------------------------------------------------------------------------------------
        result = records.build_record(
            half="torch_imagenet",
            mode=config.mode,
            network=spec.name,
            recipe=recipe.name,
            seed=recipe.seed,
            schedule=recipe.schedule.describe(),
            image_size=recipe.image_size,
            dataset=data.describe(),
            device=device.describe(),
            machine=provenance.machine(),
            precision=level.name,
            batch_size=recipe.batch_size,
            global_batch_size=recipe.batch_size * recipe.accumulate * device.count,
            memory_format=memory_format,
            compiled=config.compile,
            epochs_completed=progress.epoch,
            steps_completed=progress.step,
            images_trained=progress.images,
            bad_images=bad.count,
            throughput=clock.summary(),
            train={"loss": progress.loss, "top1": progress.top1, "top5": progress.top5},
            evaluation=records.evaluation_part(metrics, str(folder / "checkpoints" / "last"), evaluator.skipped),
            best={"epoch": progress.best_epoch, "top1": progress.best_top1},
            parameters=run_setup.parameters(network),
            peak_memory=device.peak_memory(),
            versions=run_setup.versions(),
            started=started,
            seconds=time.time() - begin,
        )
        evaluation.finish(log, folder, result, metrics, disk_errors.advice(folder))


def _folder(config: RunConfig, spec: NetworkSpec, found: Optional[Found]) -> Tuple[Path, Optional[Path]]:
    """The run's folder, and where the files of another run went that was in it."""
    folder = run_folder(config.output_dir, f"{spec.name}-{config.mode}")
    in_place = found is not None and is_run_of(folder, found.folder)
    return folder, None if in_place else set_aside(folder, "torch_imagenet", config.mode)


def _run_state(
    mode: str,
    recipe: ImageNetRecipe,
    spec: NetworkSpec,
    data: run_setup.Data,
    device: Device,
    arithmetic: Dict[str, Any],
) -> Dict[str, Any]:
    """What a checkpoint must say so that evaluation and resumption need nothing else."""
    return {
        "half": "torch_imagenet",
        "mode": mode,
        "recipe": recipe.to_json(),
        "network": spec.to_json(),
        "data": {
            "name": data.content.name,
            "path": in_utf8(data.content.path),
            "fingerprint": data.content.fingerprint,
            "order": data.train.order,
            "classes": data.classes.stored(),
        },
        "device": device.describe(),
        "arithmetic": arithmetic,
    }


class _Saver:
    """Writes the checkpoints of a run, and the originals' files where they were asked for."""

    def __init__(
        self,
        folder: Path,
        config: RunConfig,
        step: TrainingStep,
        bad: BadImages,
        run_state: Dict[str, Any],
        ranks: Ranks,
    ) -> None:
        self._folder = folder
        self._checkpoints = CheckpointFolder(folder, config.keep) if ranks.is_first else None
        self._original_names = config.original_names
        self._step, self._bad, self._run_state = step, bad, run_state

    def save(self, progress: Progress, clock: Clock, best: bool) -> None:
        """A checkpoint of now, which the first process writes."""
        if self._checkpoints is None:
            return
        training = self._step.state_dict()
        state = dict(
            self._run_state, progress=progress.to_json(), clock=clock.to_state(), bad_images=self._bad.to_state()
        )
        self._checkpoints.save(progress.step, lambda folder: checkpoints.write_training(folder, training), state, best)

    def epoch_done(self, progress: Progress, best: bool) -> None:
        """After an epoch's evaluation."""
        if self._original_names and self._checkpoints is not None:
            checkpoints.save_with_original_names(
                self._folder,
                self._run_state["network"]["name"],
                progress.epoch,
                self._step.evaluated_weights(),
                self._step.optimizer.state_dict(),
                progress.best_top1,
                best,
                self._run_state["data"]["classes"],
            )


def _training_input(
    config: RunConfig, recipe: ImageNetRecipe, data: run_setup.Data, device: Device, ranks: Ranks
) -> TrainingInput:
    return TrainingInput(
        data.train,
        run_setup.train_transform(recipe),
        recipe.batch_size,
        recipe.seed,
        workers(config),
        on_bad_image=config.on_bad_image,
        pin_memory=device.asynchronous,
        rank=ranks.rank,
        ranks=ranks.size,
        patience=patience(config, ranks.size),
    )


def _evaluation_input(
    config: RunConfig, recipe: ImageNetRecipe, spec: NetworkSpec, data: run_setup.Data, device: Device, ranks: Ranks
) -> EvaluationInput:
    return EvaluationInput(
        data.content.val,
        run_setup.eval_transform(config, recipe, spec),
        config.eval_batch_size or recipe.batch_size,
        workers(config),
        on_bad_image=config.on_bad_image,
        pin_memory=device.asynchronous,
        rank=ranks.rank,
        ranks=ranks.size,
        patience=patience(config, ranks.size),
    )


class _Evaluator:
    """Evaluates the weights of now, or their average where the recipe has one."""

    def __init__(
        self,
        step: TrainingStep,
        validation: EvaluationInput,
        data: str,
        spec: NetworkSpec,
        device: Device,
        normalise: Normalisation,
        interrupts: Interrupts,
        log: RunLog,
        ranks: Ranks,
    ) -> None:
        self._bad, self.most_confident = BadImages(log), MostConfident()
        self._step, self._validation, self._data, self._spec = step, validation, data, spec
        self._device, self._normalise, self._interrupts, self._ranks = device, normalise, interrupts, ranks

    @property
    def skipped(self) -> int:
        """Validation images that could not be read."""
        return self._bad.count

    def run(self) -> Metrics:
        """The metrics over all validation images, and their `most_confident`. Raises as `evaluation.together` does."""
        self.most_confident = MostConfident()
        average = self._step.average
        with average.applied() if average is not None else contextlib.nullcontext():
            count = partial(
                evaluation.count_images,
                self._step.forward,
                self._step.network,
                self._validation,
                self._spec.num_classes,
                self._device,
                self._step.precision,
                self._normalise,
                self._interrupts,
                self._bad,
                self.most_confident,
            )
            return evaluation.together(count, self._bad, self._ranks, self._data, training=True)


def _introduce(
    log: RunLog,
    device: Device,
    recipe: ImageNetRecipe,
    spec: NetworkSpec,
    step: TrainingStep,
    plan: Plan,
    remarks: List[str],
    folder: Path,
) -> None:
    """What is about to run, before the first step."""
    level = precision(recipe.precision)
    for line in [*run_setup.device_lines(device, level), run_setup.network_line(spec, step.network)]:
        log.line(line)
    whole = recipe.batch_size * recipe.accumulate * device.count
    log.line(
        f"recipe: {recipe.name}, {recipe.epochs} epochs of {plan.steps_per_epoch} steps, batch {recipe.batch_size} per"
        f" device ({whole} in all), image size {recipe.image_size}, learning rate {recipe.schedule.describe()}"
    )
    for line in [*_notes(recipe, step, whole), *remarks]:
        log.line(f"note: {line}")
    log.line(f"output: {folder}")


def _notes(recipe: ImageNetRecipe, step: TrainingStep, whole: int) -> List[str]:
    documented = next((line.strip() for line in document(recipe.name).splitlines() if "Documented:" in line), None)
    notes = [documented] if documented else []
    if recipe.devices > 1 and whole != recipe.batch_size * recipe.devices:
        notes.append(
            f"the recipe's learning rate is for {recipe.devices} devices, {recipe.batch_size * recipe.devices} images a"
            f" step; here it is {whole}: --accumulate {recipe.devices} makes them the same"
        )
    more = (smoothing_text(recipe.label_smoothing, recipe.smoothing), needs_host(step))
    return [*notes, *(note for note in more if note)]
