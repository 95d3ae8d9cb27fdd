"""What a training writes to its log: a step, an epoch, and how to make it shorter where it takes days."""

from __future__ import annotations

from typing import Any, List, Mapping

from shared.metrics import Metrics
from shared.recipes.cifar10 import CifarRecipe
from shared.run.loop import Run
from shared.text import duration
from tf_seresnet.run_setup import RunSetup

ADVICE_STEP = 12  # soon, but behind the first steps, which compile
LONG = 6 * 3600.0  # seconds
SMALL_DEPTHS = {"port": 11, "paper": 8}


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
    made_smaller = setup.config.max_steps or setup.recipe.steps_per_epoch or setup.config.epochs
    speed = run.clock.summary() if run.progress.step == ADVICE_STEP and not made_smaller else {}
    if speed:
        for line in advice(speed["step_ms_p50"], run.plan.total_steps - run.progress.step, setup.recipe):
            run.log.line(line)


def advice(step_ms: float, steps_left: int, recipe: CifarRecipe) -> List[str]:
    """How long the rest of a run takes at `step_ms` a step, and how it gets shorter; nothing below `LONG` seconds."""
    seconds = step_ms * steps_left / 1000
    if seconds < LONG:
        return []
    return [
        f"note: at {step_ms:.0f} ms a step the rest of recipe {recipe.name} takes {duration(seconds)} here",
        f"      shorter: --depth {SMALL_DEPTHS[recipe.variant]} --epochs 3 --scheduler cosine --learning-rate 0.1;"
        " --max-steps N stops anywhere;",
        "      Ctrl-C saves a checkpoint that --resume continues from",
    ]
