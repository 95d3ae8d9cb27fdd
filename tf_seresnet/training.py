"""The mode `train`: one straight line from the config to the record."""

from __future__ import annotations

import dataclasses
import functools
import os
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import tensorflow as tf

from shared.cifar10.dataset import Cifar10
from shared.class_names import Classes, match
from shared.cli.signals import Interrupts
from shared.errors import UsageError
from shared.recipes.cifar10 import CifarRecipe
from shared.results import record as records
from shared.results.rows import beside_documented
from shared.results.tables import render
from shared.roofline import element_bytes
from shared.run import disk_errors, provenance
from shared.run.clock import Clock
from shared.run.events import log_start
from shared.run.folder import is_run_of, run_folder, run_of, set_aside
from shared.run.log import RunLog, now
from shared.run.progress import Progress
from shared.text import in_utf8
from tf_seresnet import checkpoints, devices, evaluation, run_setup
from tf_seresnet.checkpoints import Checkpoints, Found, check_stored
from tf_seresnet.input_pipeline import Augmentation, Normalisation, TrainingInput
from tf_seresnet.layers.counting import network_cost
from tf_seresnet.loop import Loop, Plan
from tf_seresnet.options import RunConfig
from tf_seresnet.step import training_step
from tf_seresnet.step.training_step import Inference, NetworkSpec, TrainingStep

tf1 = tf.compat.v1

WARM_UP_STEPS = 5  # left out of throughput: the first ones compile and fill caches


def train(config: RunConfig, interrupts: Interrupts) -> None:
    """Train and evaluate as the config says; everything is written under the run's folder.

    Raises UsageError where the user can mend it, Stopped after a signal, with a checkpoint written.
    """
    started, begin = now(), time.time()

    # -- Checkpoint to resume, data, recipe, device --------------------------------------------------------
    config, found = _resumed(config)
    state = found.state if found else None
    given = _start(config)
    data, remark = run_setup.load_data(config, found.state if found else given.state if given else None)
    recipe = run_setup.resumed_recipe(config, state, data) if state else run_setup.choose_recipe(config, data)
    normalise = Normalisation.from_images(data.train_images)
    network = run_setup.network(config, recipe, state, len(data.label_names))
    own = Classes(data.label_names)
    outputs = checkpoints.classes(given) if given else None  # without a head it is refused when it is restored
    kept = match(outputs or own, own, "check --data-path and label_names in batches.meta")
    device = devices.open_from(config, recipe.precision, recipe.loss_scale)
    run_setup.check_devices(device, network, state)
    progress = Progress(**state["progress"]) if state else Progress()
    folder = run_folder(config.output_dir, recipe.network) if device.rank == 0 else None  # the others write nothing
    checkpoints.native(os.path.abspath(str(folder or "")))
    in_place = folder and found and is_run_of(folder, Path(found.prefix).parent)
    aside = set_aside(folder, "tf_seresnet", "train") if folder and not in_place else None

    with RunLog(folder, progress.step) as log, tf.Graph().as_default(), device.connected() as replicas:
        # -- Graph -----------------------------------------------------------------------------------------
        log.line(remark)
        if aside:
            log.line(f"note: the run that was in {folder} is now in {aside}")
        if folder:
            write_config = functools.partial(run_setup.write_config, folder, config, recipe, network, device, data)
            disk_errors.optional(write_config, folder / "config.json", log)
        batch = TrainingInput(
            data.train_images,
            data.train_labels,
            normalise,
            Augmentation(recipe.crop_padding, recipe.flip),
            recipe.batch_size,
            recipe.seed,
            config.workers or 2,
            device.static_shapes,
            device.times_data_wait,
            replicas,
        )
        step = TrainingStep(network, batch, recipe, device, replicas)
        variables = training_step.model_variables()
        inference = Inference(
            network,
            normalise,
            evaluation.batch_size(config, len(data.test_images), device.count),
            reuse=True,
            replicas=replicas,
        )
        plan = _plan(config, recipe, batch.steps_per_epoch, device)
        log_start(
            log,
            recipe.to_json(),
            layers=network.layers,
            dataset=data.name,
            device=f"{device.count} x {device.name}",
            global_batch_size=recipe.batch_size * device.count,
        )
        remarks = [*recipe.schedule.remarks(), *(run_setup.resumption_remarks(state, recipe, device) if state else [])]
        _introduce(log, device, recipe, network, plan, remarks, folder)
        if batch.left_out:
            why = "this device wants one shape" if device.static_shapes else "they are fewer than the devices"
            log.line(f"note: {why}; the last {batch.left_out} images of an epoch's order are left out")

        with tf1.Session(config=device.session_config()) as session:
            # -- Weights: new, given or resumed ------------------------------------------------------------
            training_step.initialise(session, recipe.seed)
            if given:
                given = given.moved_with(config.output_dir)
                checkpoints.restore_weights(session, given, variables, None if kept.in_place else kept.outputs)
                for line in [f"weights: {given.prefix}", *(f"note: {note}" for note in kept.notes)]:
                    log.line(line)
            if found:
                checkpoints.restore_everything(session, found)
                for line in [*found.notes, f"resumed: {found.prefix} at step {progress.step}"]:
                    log.line(line)
            replicas.align(session)
            step.begin(session)

            # -- Train and evaluate ------------------------------------------------------------------------
            clock = Clock.from_state(state["clock"], WARM_UP_STEPS) if state else Clock(WARM_UP_STEPS)
            loop = Loop(
                session,
                data,
                recipe,
                plan,
                batch,
                step,
                inference,
                progress,
                clock,
                log,
                replicas.interrupts(interrupts),
                Checkpoints(folder, config.keep) if folder else None,
                _run_state(recipe, network, normalise, data, device),
                replicas,
            )
            metrics = loop.run()
            if folder is None:
                return
            model = folder / "model.ckpt"
            disk_errors.required(lambda: checkpoints.save_weights(session, model, variables, own.names), model, folder)
            evaluation.write_pictures(log, folder, loop.most_confident, data, own.names)

        # -- Record ----------------------------------------------------------------------------------------
        result = records.build_record(
            half="tf_seresnet",
            mode="train",
            network=recipe.network,
            recipe=recipe.name,
            depth=recipe.depth,
            variant=recipe.variant,
            layers=network.layers,
            seed=recipe.seed,
            schedule=recipe.schedule.describe(),
            dataset=run_setup.describe_data(data),
            device=device.describe(),
            machine=provenance.machine(),
            precision=device.precision,
            batch_size=recipe.batch_size,
            global_batch_size=recipe.batch_size * device.count,
            epochs_completed=progress.epoch,
            steps_completed=progress.step,
            images_trained=progress.images,
            throughput=clock.summary(),
            train={"loss": progress.loss, "top1": progress.top1, "top5": progress.top5},
            evaluation=records.evaluation_part(metrics, str(folder / "checkpoints" / "last")),
            best={"epoch": progress.best_epoch, "top1": progress.best_top1},
            parameters=training_step.parameters(),
            versions=run_setup.versions(),
            started=started,
            seconds=time.time() - begin,
        )
        records.write_record(folder / "result.json", result, disk_errors.advice(folder))
        log.succeeded()
        log.line(records.evaluation_line(metrics))
        log.line(f"record: {folder / 'result.json'}")
        log.line("\n" + render(beside_documented(result)).rstrip())


def _resumed(config: RunConfig) -> Tuple[RunConfig, Optional[Found]]:
    """The checkpoint that --resume names, and the config with the folder of its run unless --output-dir is given."""
    if config.resume is None:
        return config, None
    if config.checkpoint is not None:
        raise UsageError(
            "--resume and --checkpoint exclude each other; --resume continues a run, --checkpoint starts one"
        )
    found = checkpoints.find(config.resume)
    if found.state is None:
        raise UsageError(f"{found.prefix} has weights but no training state; start from them with --checkpoint instead")
    check_stored(found)
    if config.output_dir is None:
        config = dataclasses.replace(config, output_dir=str(run_of(Path(found.prefix).parent)))
    return config, found


def _start(config: RunConfig) -> Optional[Found]:
    """The weights that --checkpoint names for a run that starts."""
    if config.checkpoint is None:
        return None
    given = checkpoints.find(config.checkpoint)
    if given.state is not None:
        check_stored(given)
    return given


def _plan(config: RunConfig, recipe: CifarRecipe, steps_per_epoch: int, device: Any) -> Plan:
    steps_per_epoch = min(steps_per_epoch, recipe.steps_per_epoch or steps_per_epoch)
    if steps_per_epoch < 1:
        batch = f"{recipe.batch_size} on {device.count} devices" if device.count > 1 else str(recipe.batch_size)
        raise UsageError(f"a batch of {batch} is larger than the training set; lower --batch-size")
    total = steps_per_epoch * recipe.epochs
    smaller = config.max_steps or recipe.steps_per_epoch or config.epochs
    return Plan(
        steps_per_epoch,
        min(total, config.max_steps or total),
        config.print_freq,
        config.save_steps,
        not smaller,
        _floor(config, recipe, device),
    )


def _floor(config: RunConfig, recipe: CifarRecipe, device: Any) -> Optional[float]:
    if config.accelerator is None:
        return None
    cost = network_cost(recipe.depth, recipe.variant)
    return config.accelerator.roofline_seconds(cost, recipe.batch_size, element_bytes(device.precision))


def _run_state(
    recipe: CifarRecipe, network: NetworkSpec, normalise: Normalisation, data: Cifar10, device: Any
) -> Dict[str, Any]:
    """What a checkpoint must say so that evaluation and resumption need nothing else."""
    return {
        "recipe": recipe.to_json(),
        "network": dataclasses.asdict(network),
        "normalisation": dataclasses.asdict(normalise),
        "data": {"path": in_utf8(data.path), "fingerprint": data.fingerprint, "classes": data.label_names},
        "device": device.describe(),
        "arithmetic": run_setup.arithmetic(device),
    }


def _introduce(
    log: RunLog,
    device: Any,
    recipe: CifarRecipe,
    network: NetworkSpec,
    plan: Plan,
    remarks: List[str],
    folder: Optional[Path],
) -> None:
    """What is about to run, before the first step."""
    several = f"{device.count} x " if device.count > 1 else ""
    log.line(f"device: {device.kind}, {several}{device.name}, precision {device.precision}")
    for note in device.notes:
        log.line(f"note: {note}")
    log.line(
        f"network: {recipe.network}, variant {network.variant}, layers {network.layers},"
        f" {training_step.parameters():,} trainable parameters"
    )
    log.line(
        f"recipe: {recipe.name}, {recipe.epochs} epochs of {plan.steps_per_epoch} steps, batch {recipe.batch_size} per"
        f" device ({recipe.batch_size * device.count} in all), learning rate {recipe.schedule.describe()}"
    )
    for remark in remarks:
        log.line(f"note: {remark}")
    if folder:
        log.line(f"output: {folder}")
