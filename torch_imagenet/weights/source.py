"""Where the weights of an evaluation, a fine-tuning or a new run come from: a run, a checkpoint, or a file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from torch import nn

from shared.checkpoint.folder import holds_one
from shared.class_names import Classes, match, of_state
from shared.errors import UsageError
from shared.run.folder import named_weights
from torch_imagenet import checkpoints
from torch_imagenet.checkpoints import TRAINING, check_stored, read_training
from torch_imagenet.networks.spec import NetworkSpec
from torch_imagenet.options import RunConfig
from torch_imagenet.weights.load import head_classes, load_weights


@dataclass(frozen=True)
class FoundWeights:
    """Weights on disk. `state` is our checkpoint's; a file of weights alone has none.

    `classes` are those of the head; None where there is no head.
    """

    path: Path
    state: Optional[Dict[str, Any]]
    notes: List[str]
    classes: Optional[Classes]

    @property
    def step(self) -> int:
        """The training step that they are from; 0 where nobody knows."""
        return int(self.state["progress"]["step"]) if self.state else 0

    def load(
        self, network: nn.Module, new_head: Optional[bool] = False, rows: Optional[Sequence[int]] = None
    ) -> List[str]:
        """Put them into the network, as `load_weights` does; lines about what matched.

        Raises UsageError where they do not fit.
        """
        if self.state is None:
            return load_weights(network, self.path, new_head=new_head, rows=rows).lines()
        training = read_training(self.path)
        network_part, average = training.get("network"), training.get("average", {})
        if not isinstance(network_part, dict) or not isinstance(average, dict):
            raise UsageError(f"{self.path / TRAINING} holds no weights of a network; use another checkpoint")
        return load_weights(network, {**network_part, **average}, new_head=new_head, rows=rows).lines()


def found_weights(config: RunConfig) -> FoundWeights:
    """What --checkpoint (or --resume) names, else the newest run's last checkpoint. Raises UsageError where none is."""
    path = Path(named_weights(config, TRAINING))
    if path.is_file() and not holds_one(path):
        return FoundWeights(path, None, [], head_classes(path))
    found = checkpoints.find(path)
    check_stored(found)
    classes = of_state(found.state, found.state["network"]["num_classes"])
    return FoundWeights(found.folder, found.state, found.notes, classes)


RECIPES = {"pnasnet5large": "pnasnet5large_finetune"}  # documented; the other networks' is ours
DEFAULT_RECIPE = "imagenet_finetune"


def starting_weights(config: RunConfig) -> Tuple[RunConfig, Optional[FoundWeights]]:
    """The weights that --checkpoint names, None without one, and the configuration with what follows from them.

    A checkpoint of ours says its network, its padding and the image size that it was trained with; those are taken
    over unless the command line says otherwise. Raises UsageError for a fine-tuning without a checkpoint.
    """
    if config.checkpoint is None:
        if config.mode == "finetune":
            raise UsageError("finetune starts from weights; name a run's folder or a file with --checkpoint PATH")
        return config, None
    found = found_weights(config)
    if found.state is not None:
        trained, recipe = found.state["network"], found.state["recipe"]
        if config.network not in (None, trained["name"]):
            raise UsageError(f"the checkpoint is of {trained['name']}; leave --network {config.network} out")
        zero_pad = False if recipe["zero_pad"] is False else config.zero_pad
        image_size = config.image_size or recipe["image_size"]
        config = replace(config, network=trained["name"], image_size=image_size, zero_pad=zero_pad)
    if config.mode == "finetune" and config.recipe is None:
        config = replace(config, recipe=RECIPES.get(config.network or "", DEFAULT_RECIPE))
    return config, found


class Head(NamedTuple):
    """What becomes of the weights' head: a `new` one, or their `rows`, one a class of the data set; None: all."""

    new: bool
    rows: Optional[Sequence[int]] = None
    notes: Sequence[str] = ()


def head(found: FoundWeights, data: Classes, config: RunConfig) -> Head:
    """The head of a run that begins with these weights: what it knows of the data set's classes is kept, by name.

    A fine-tuning makes a new one where --num-classes asks for it, and where it has other classes and another number of
    them. Raises UsageError where it has other classes but as many, and in other modes wherever it lacks one.
    """
    tuning = config.mode == "finetune"
    if tuning and config.num_classes is not None:
        return Head(True)
    if found.classes is None:
        return Head(False)  # `load_weights` says what is missing
    classes, outputs = len(data.names), len(found.classes.names)
    advice = "check --data-path, or give it a new head with the mode finetune"
    if tuning:
        advice = f"check --data-path and the names of the classes, or make a new head with --num-classes {classes}"
    try:
        found_in = match(found.classes, data, advice)
    except UsageError:
        if tuning and classes != outputs:
            said = f"the weights' {outputs:,} classes are not the data set's {classes:,}: a new head"
            return Head(True, notes=[said])
        raise
    return Head(False, None if found_in.in_place else found_in.outputs, found_in.notes)


def load(found: FoundWeights, network: nn.Module, spec: NetworkSpec, kept: Head) -> List[str]:
    """Put the weights into the network, with what becomes of their head; what the log says about it."""
    lines = found.load(network, kept.new, kept.rows)
    notes = [f"note: {line}" for line in kept.notes]
    return [*found.notes, f"weights: {found.path} into {spec.name}", *lines, *notes]
