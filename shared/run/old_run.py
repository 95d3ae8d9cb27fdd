"""An old port's run that goes on: its checkpoint says how many epochs are done, and nothing within an epoch."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence

from shared.errors import UsageError
from shared.imagenet.layout import counted
from shared.recipes.base import Recipe
from shared.run.clock import Clock
from shared.run.plan import Plan
from shared.run.progress import Progress

NEW_RUN = "start a new run from its weights with --checkpoint"


def state_after(
    epochs: int, recipe: Recipe, plan: Plan, file: str, said: str, again: str, best_top1: Optional[float] = None
) -> Dict[str, Any]:
    """The state of a run at the first step after so many epochs, with the best accuracy in percent where it is known.

    Raises UsageError where the recipe ends before that; `file` says so, as `said`, and can be evaluated as `again`.
    """
    step = epochs * plan.steps_per_epoch
    if plan.total_steps <= step:
        raise UsageError(
            f"{file} has {counted(epochs, 'epoch')} done, {said}{step:,} steps, and {recipe.name} ends after"
            f" {plan.total_steps:,}; give the old run's --recipe, or more --epochs or --max-steps, or evaluate {again}"
            " with the mode evaluate"
        )
    progress = Progress(epoch=epochs, step=step)
    progress.best_top1 = progress.best_top1 if best_top1 is None else best_top1
    return {"recipe": recipe.to_json(), "progress": vars(progress), "clock": Clock().to_state()}


def lines(
    file: str, said: str, state: Dict[str, Any], recipe: Recipe, taken: Sequence[str], missing: Sequence[str]
) -> List[str]:
    """For the log: where the run goes on, what was taken from the file, and what is not in it."""
    epochs, step = state["progress"]["epoch"], state["progress"]["step"]
    return [
        f"resumed: {file}, {counted(epochs, 'epoch')} done, {said}{step:,} steps; goes on with epoch {epochs + 1} of"
        f" {recipe.epochs}, learning rate {recipe.schedule.at(epochs):g}",
        f"taken from it: {', '.join(taken)}",
        f"not in it: {', '.join(missing)}",
    ]
