"""What a training writes to its log: a step, an epoch, and how long it takes where that is long."""

from __future__ import annotations

from typing import Any, Mapping

from shared.metrics import Metrics
from shared.run.loop import Run
from shared.text import duration
from tf_seresnet.run.setup import RunSetup

ADVICE_STEP = 12  # soon, but behind the first steps, which compile
LONG = 6 * 3600.0  # seconds


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


def seconds_line(images: int, epoch: int, speed: Mapping[str, Any]) -> str:
    """The seconds of a step of so many images, by themselves: the mean of an epoch.

    The original prints those of each step, and its scripts divide the batch size by the last such line.
    """
    return f"{images / speed['images_per_second']:.6f}"


def epoch_line(run: Run, metrics: Metrics) -> str:
    """The line of the epoch just trained and evaluated."""
    progress = run.progress
    return (
        f"epoch: {progress.evaluated_epoch}/{run.plan.epochs}, train_loss: {progress.loss:.4f}, train_acc:"
        f" {progress.top1 / 100:.4f}, test_loss: {metrics.loss:.4f}, test_acc: {metrics.top1 / 100:.4f}"
    )


def log_advice(run: Run, setup: RunSetup, steps: int) -> None:
    """Log once how long the run takes where that is long, unless an option made it shorter; `steps` were just read."""
    made_shorter = setup.config.max_steps or setup.recipe.steps_per_epoch or setup.config.epochs
    due = run.progress.step - steps < ADVICE_STEP <= run.progress.step
    speed = run.clock.summary() if due and not made_shorter else {}
    seconds = speed["step_ms_p50"] / 1000 * (run.plan.total_steps - run.progress.step) if speed else 0.0
    if seconds >= LONG:
        run.log.line(
            f"note: the rest of recipe {setup.recipe.name} takes {duration(seconds)} here; a smaller --depth and fewer"
            " --epochs are shorter, --max-steps N stops anywhere, and Ctrl-C saves a checkpoint for --resume"
        )
