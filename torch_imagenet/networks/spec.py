"""Which network a run has, as a checkpoint stores it: everything that `networks.create` needs to make it again."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Dict, Optional

from torch import nn

from shared.errors import UsageError
from shared.recipes.imagenet import ImageNetRecipe
from torch_imagenet.networks import create
from torch_imagenet.networks.registry import NETWORKS


@dataclass(frozen=True)
class NetworkSpec:
    """Name, number of classes and the options of `create`."""

    name: str
    num_classes: int
    dropout: Optional[float] = None
    drop_path: float = 0.0
    options: Dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_recipe(cls, recipe: ImageNetRecipe, num_classes: int) -> NetworkSpec:
        """The network that a recipe trains. Raises UsageError for what this network does not have."""
        wanted = {"zero_pad": recipe.zero_pad, "auxiliary_head": recipe.auxiliary_weight > 0}
        known = NETWORKS[recipe.network].options
        if wanted["auxiliary_head"] and "auxiliary_head" not in known:
            raise UsageError(f"{recipe.network} has no auxiliary head; leave --auxiliary-weight out")
        if not wanted["zero_pad"] and "zero_pad" not in known:
            raise UsageError(f"--no-zero-pad is PNASNet's; {recipe.network} has no such padding")
        options = {name: value for name, value in wanted.items() if name in known}
        return cls(recipe.network, num_classes, recipe.dropout, recipe.drop_path, options)

    def make(self) -> nn.Module:
        """The network with fresh weights, drawn from torch's generator."""
        return create(
            self.name, num_classes=self.num_classes, dropout=self.dropout, drop_path=self.drop_path, **self.options
        )

    @property
    def head(self) -> str:
        """The name of the classifying layer, first part of its keys."""
        return NETWORKS[self.name].head

    def to_json(self) -> Dict[str, Any]:
        """For state.json; `NetworkSpec(**content)` gives it back."""
        return dataclasses.asdict(self)

    def text(self) -> str:
        """For the log: name and what differs from the plain network."""
        parts = [self.name, f"{self.num_classes} classes"]
        parts += [f"dropout {self.dropout:g}"] if self.dropout is not None else []
        parts += [f"drop-path {self.drop_path:g}"] if self.drop_path else []
        parts += ["auxiliary head"] if self.options.get("auxiliary_head") else []
        parts += ["without zero padding"] if self.options.get("zero_pad") is False else []
        return ", ".join(parts)


def parameters(network: nn.Module) -> int:
    """How many numbers the network learns, frozen ones included."""
    return sum(parameter.numel() for parameter in network.parameters())
