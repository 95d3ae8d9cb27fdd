"""--dry-run: what would follow after everything that a run does before it writes."""

from __future__ import annotations

from pathlib import Path
from typing import List

from shared.roofline import NetworkCost
from shared.run import dry_run
from tf_seresnet.layers.counting import network_cost
from tf_seresnet.run.setup import RunSetup


def of_training(setup: RunSetup) -> List[str]:
    """The last lines of a dry run. Raises UsageError for a folder that cannot be written."""
    data, state = setup.data, setup.resumed_state
    resumed = Path(setup.checkpoint.prefix).parent if setup.checkpoint and state else None
    return [
        dry_run.images(len(data.train_images), len(data.test_images), len(data.label_names)),
        *dry_run.training(setup.recipe.to_json(), setup.plan, setup.resumed_step, _cost(setup), setup.device.precision),
        *dry_run.ends("tf_seresnet", setup.config, resumed),
    ]


def of_evaluation(setup: RunSetup, batch_size: int) -> List[str]:
    """The same of an evaluation with so many images in a batch."""
    images = len(setup.data.test_images)
    batches = -(-images // (batch_size * setup.device.count))
    return [
        dry_run.images(None, images, len(setup.data.label_names)),
        *dry_run.evaluation(batches, batch_size, _cost(setup).parameters),
        *dry_run.ends("tf_seresnet", setup.config),
    ]


def _cost(setup: RunSetup) -> NetworkCost:
    network = setup.network
    return network_cost(network.depth, network.variant, network.num_classes)
