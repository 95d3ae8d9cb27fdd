"""What a training writes to its log: the setup, a step, an epoch, and how to make it shorter where it takes days."""

from __future__ import annotations

from pathlib import Path
from typing import Any, List, Mapping, Optional

from shared.metrics import Metrics
from shared.recipes.cifar10 import CifarRecipe
from shared.run.log import RunLog
from shared.run.loop import Run
from shared.text import duration
from tf_seresnet.run_setup import RunSetup
from tf_seresnet.step import variables

ADVICE_STEP = 12  # soon, but behind the first steps, which compile
LONG = 6 * 3600.0  # seconds
SMALLER = {"port": ((11, 3), (20, 20)), "paper": ((8, 3), (20, 20))}  # depths that exist, and epochs


def log_setup(log: RunLog, setup: RunSetup, left_out: int, folder: Optional[Path]) -> None:
    """Log what is about to run. Needs the graph, for the number of parameters."""
    recipe, device, network = setup.recipe, setup.device, setup.network
    log.start(
        recipe.to_json(),
        layers=network.layers,
        dataset=setup.data.name,
        device=f"{device.count} x {device.name}",
        global_batch_size=setup.global_batch_size,
    )
    several = f"{device.count} x " if device.count > 1 else ""
    lines = [
        f"device: {device.kind}, {several}{device.name}, precision {device.precision}",
        *(f"note: {note}" for note in device.notes),
        f"network: {recipe.network}, variant {network.variant}, layers {network.layers},"
        f" {variables.parameters():,} trainable parameters",
        f"recipe: {recipe.name}, {recipe.epochs} epochs of {setup.steps_per_epoch} steps, batch {recipe.batch_size} per"
        f" device ({setup.global_batch_size} in all), learning rate {recipe.schedule.describe()}",
        *(f"note: {remark}" for remark in setup.remarks()),
    ]
    if folder:
        lines.append(f"output: {folder}")
    if left_out:
        why = "this device wants one shape" if device.static_shapes else "they are fewer than the devices"
        lines.append(f"note: {why}; the last {left_out} images of an epoch's order are left out")
    for line in lines:
        log.line(line)


def step_line(run: Run, rate: float, speed: Mapping[str, Any]) -> str:
    """The line of the step just done; its loss and accuracy are those of the epoch so far."""
    progress, plan = run.progress, run.plan
    parts = [
        f"epoch: {progress.epoch + 1}/{plan.epochs}",
        f"step: {progress.step_in_epoch}/{plan.steps_per_epoch}",
        f"loss: {progress.loss:.4f}",
        f"acc: {progress.top1 / 100:.4f}",
        f"lr: {rate:g}",
    ]
    if speed:
        parts += [f"images/s: {speed['images_per_second']:.1f}", f"ms/step: {speed['step_ms_p50']:.1f}"]
    if "data_wait_share" in speed:
        parts.append(f"data wait: {100 * speed['data_wait_share']:.1f} %")
    return ", ".join(parts)


def epoch_line(run: Run, metrics: Metrics) -> str:
    """The line of the epoch just trained and evaluated."""
    progress = run.progress
    return (
        f"epoch: {progress.epoch + 1}/{run.plan.epochs}, train_loss: {progress.loss:.4f}, train_acc:"
        f" {progress.top1 / 100:.4f}, test_loss: {metrics.loss:.4f}, test_acc: {metrics.top1 / 100:.4f}"
    )


def log_advice(run: Run, setup: RunSetup) -> None:
    """Log once how long the run takes where that is long, unless an option made it smaller."""
    speed = run.clock.summary() if run.progress.step == ADVICE_STEP and setup.is_full_recipe else {}
    if speed:
        left = run.plan.total_steps - run.progress.step
        for line in advice(speed["step_ms_p50"] / 1000, left, setup.recipe, run.plan.steps_per_epoch):
            run.log.line(line)


def advice(step_seconds: float, steps_left: int, recipe: CifarRecipe, steps_per_epoch: int) -> List[str]:
    """How long the rest of a run takes at `step_seconds` per step, and smaller runs; nothing below `LONG` seconds."""
    seconds = step_seconds * steps_left
    if seconds < LONG:
        return []
    smaller = []
    for depth, epochs in SMALLER[recipe.variant]:
        # The cost of a step is nearly proportional to the number of blocks.
        share = (depth - 2) / (recipe.depth - 2)
        smaller.append((f"--depth {depth} --epochs {epochs}", step_seconds * share * steps_per_epoch * epochs))
    return [
        f"note: at {1000 * step_seconds:.0f} ms a step the rest of recipe {recipe.name} takes {duration(seconds)} here",
        "      smaller: " + "; ".join(f"{options} (about {duration(guess)})" for options, guess in smaller),
        "      add --scheduler cosine --learning-rate 0.1 --warm-up-epochs 1 to these; --max-steps N stops anywhere;",
        "      Ctrl-C saves a checkpoint that --resume continues from",
    ]
