"""What `state.json` of this half must say besides what both store."""

from __future__ import annotations

from pathlib import Path

from shared.recipes.cifar10 import CifarRecipe
from shared.stored_state import check_state, not_ours
from tf_seresnet.checkpoints import Found
from tf_seresnet.graph import NetworkSpec
from tf_seresnet.input_pipeline import Normalisation


def check_stored(found: Found) -> None:
    """Raises UsageError where the checkpoint does not say what continuing or evaluating it needs."""
    assert found.state is not None
    folder = Path(found.prefix).parent
    stored = check_state(folder, found.state, recipe=CifarRecipe, network=NetworkSpec, normalisation=Normalisation)
    stored["recipe"].checked()
    network, normalisation = stored["network"], stored["normalisation"]
    for wrong, what in (
        ((network.depth, network.variant) != (stored["recipe"].depth, stored["recipe"].variant), "network"),
        (len(normalisation.mean) != 3 or len(normalisation.std) != 3, "normalisation"),
        (min(normalisation.std) <= 0, "normalisation"),
    ):
        if wrong:
            raise not_ours(folder, what)
    network.checked()
