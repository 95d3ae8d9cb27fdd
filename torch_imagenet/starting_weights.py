"""Where the weights of an evaluation, a fine-tuning or a new run come from: a run, a checkpoint, or a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from torch import nn

from shared.checkpoint_folder import holds_one
from shared.class_names import Classes, of_state
from shared.errors import UsageError
from shared.run_folder import named_weights
from torch_imagenet import checkpoints
from torch_imagenet.checkpoints import TRAINING, read_training
from torch_imagenet.stored import check_stored
from torch_imagenet.weights import head_classes, load_weights


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


def found_weights(options: Any) -> FoundWeights:
    """What --checkpoint (or --resume) names, else the newest run's last checkpoint. Raises UsageError where none is."""
    path = Path(named_weights(options, TRAINING))
    if path.is_file() and not holds_one(path):
        return FoundWeights(path, None, [], head_classes(path))
    found = checkpoints.find(path)
    check_stored(found)
    classes = of_state(found.state, found.state["network"]["num_classes"])
    return FoundWeights(found.folder, found.state, found.notes, classes)
