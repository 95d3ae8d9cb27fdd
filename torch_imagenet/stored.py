"""A checkpoint of this half is asked before a run goes on from it: its checksums do not say who wrote it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from shared.checkpoint_folder import Found
from shared.recipes.imagenet import ImageNetRecipe
from shared.stored_state import check_state, not_ours
from torch_imagenet.checkpoints import TRAINING, read_training
from torch_imagenet.network_spec import NetworkSpec
from torch_imagenet.networks.specs import NETWORKS

if TYPE_CHECKING:
    from torch_imagenet.step import TrainingStep

_MODES = ("train", "finetune")


def check_stored(found: Found) -> None:
    """Raises UsageError where the checkpoint does not say what continuing or evaluating it needs."""
    state = found.state
    stored = check_state(found.folder, state, recipe=ImageNetRecipe, network=NetworkSpec)
    stored["recipe"].checked()
    network, bad = stored["network"], state.get("bad_images")
    for wrong, what in (
        (state.get("mode") not in _MODES, "mode"),
        (not isinstance(bad, list) or not all(isinstance(text, str) for text in bad), "bad_images"),
        ("count" not in state["device"], "device"),
        (network.name not in NETWORKS or network.name != stored["recipe"].network, "network"),
        (not all(isinstance(value, bool) for value in network.options.values()), "options of the network"),
    ):  # fmt: skip
        if wrong:
            raise not_ours(found.folder, what)


def load_training(step: TrainingStep, folder: Path) -> None:
    """Go on with the weights, the optimizer and the loss scale of a checkpoint.

    Raises UsageError where its file, which may be a stranger's, is not of this network and recipe.
    """
    state = read_training(folder)
    try:
        step.load_state_dict(state)
    except (KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:150]
        what = f"{TRAINING} is not of this network and recipe, {type(error).__name__}: {reason}"
        raise not_ours(folder, what) from error
