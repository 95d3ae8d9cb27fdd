"""Starting from weights that somebody has trained: the mode `finetune`, and --checkpoint in the mode `train`."""

from __future__ import annotations

from typing import Any, List, Optional

from torch import nn

from shared.errors import UsageError
from torch_imagenet.network_spec import NetworkSpec
from torch_imagenet.starting_weights import FoundWeights, found_weights

RECIPES = {"pnasnet5large": "pnasnet5large_finetune"}  # documented; the other networks' is ours
DEFAULT_RECIPE = "imagenet_finetune"


def starting_weights(options: Any) -> Optional[FoundWeights]:
    """What --checkpoint names, and the options that follow from it; None where a run starts from nothing.

    A checkpoint of ours says its network, its padding and the image size that it was trained with; those are taken
    over unless the command line says otherwise. Raises UsageError for a fine-tuning without a checkpoint.
    """
    if options.checkpoint is None:
        if options.mode == "finetune":
            raise UsageError("finetune starts from weights; name a run's folder or a file with --checkpoint PATH")
        return None
    found = found_weights(options)
    if found.state is not None:
        trained, recipe = found.state["network"], found.state["recipe"]
        if options.network not in (None, trained["name"]):
            raise UsageError(f"the checkpoint is of {trained['name']}; leave --network {options.network} out")
        options.network = trained["name"]
        options.image_size = options.image_size or recipe["image_size"]
        if options.zero_pad is None and recipe["zero_pad"] is False:
            options.zero_pad = False
    if options.mode == "finetune" and options.recipe is None:
        options.recipe = RECIPES.get(options.network, DEFAULT_RECIPE)
    return found


def load(found: FoundWeights, network: nn.Module, spec: NetworkSpec, options: Any) -> List[str]:
    """Put the weights into the network; what the log says about it.

    A fine-tuning keeps the head where it has as many classes as the data set, unless --num-classes asks for a new one.
    """
    tuning = options.mode == "finetune"
    lines = found.load(network, new_head=(True if options.num_classes else None) if tuning else False)
    return [*found.notes, f"weights: {found.path} into {spec.name}", *lines]
