"""--dry-run: everything that a run does before it writes, and what would follow."""

from __future__ import annotations

from pathlib import Path
from typing import Optional, Sequence

from torch import nn

from shared.run import dry_run
from shared.run.log import RunLog
from torch_imagenet.networks.cost import network_cost
from torch_imagenet.networks.spec import parameters
from torch_imagenet.run import description
from torch_imagenet.run.setup import RunSetup, TrainingSetup
from torch_imagenet.step.training_step import TrainingStep


def training(setup: TrainingSetup, step: TrainingStep, lines: Sequence[str], resumed: Optional[Path]) -> None:
    """Print what would be trained. Raises UsageError for a folder that cannot be written."""
    content, state = setup.data.content, setup.state
    cost = network_cost(setup.spec, setup.recipe.image_size)
    done = state["progress"]["step"] if state else 0
    counted = [
        dry_run.images(len(setup.data.train), len(content.val), len(content.classes)),
        *dry_run.training(setup.recipe.to_json(), setup.plan, done, cost, setup.precision.name),
    ]
    with RunLog(None, silent=not setup.ranks.is_first) as log:
        log.lines([*lines, *setup.config.command_notes])
        description.log_setup(log, setup, step)
        log.lines([*counted, *dry_run.ends("torch_imagenet", setup.config, resumed)])


def evaluation(setup: RunSetup, network: nn.Module, lines: Sequence[str]) -> None:
    """Print what would be evaluated. Raises UsageError for a folder that cannot be written."""
    assert setup.data is not None
    content, size = setup.data.content, setup.eval_batch_size
    share = -(-len(content.val) // setup.device.count)
    counted = [
        dry_run.images(None, len(content.val), len(content.classes)),
        *dry_run.evaluation(-(-share // size), size, parameters(network)),
    ]
    with RunLog(None, silent=not setup.ranks.is_first) as log:
        log.lines([*lines, *setup.config.command_notes, *counted, *dry_run.ends("torch_imagenet", setup.config)])
