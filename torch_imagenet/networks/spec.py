"""The network of a run, as a checkpoint stores it: the arguments of `networks.create`."""

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
    """Arguments of `create`."""

    name: str
    num_classes: int
    dropout: Optional[float] = None
    drop_path: float = 0.0
    options: Dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_recipe(cls, recipe: ImageNetRecipe, num_classes: int) -> NetworkSpec:
        """The network that a recipe trains. Raises UsageError for an option that this network does not have."""
        settings = {"zero_pad": recipe.zero_pad, "auxiliary_head": recipe.auxiliary_weight > 0}
        known = NETWORKS[recipe.network].options
        if settings["auxiliary_head"] and "auxiliary_head" not in known:
            raise UsageError(f"{recipe.network} has no auxiliary head; leave --auxiliary-weight out")
        if recipe.zero_init and "zero_pad" in known:
            raise UsageError(f"{recipe.network} has no residual branches; leave --zero-init out")
        options = {name: value for name, value in settings.items() if name in known}
        return cls(recipe.network, num_classes, recipe.dropout, recipe.drop_path, options)

    def make(self) -> nn.Module:
        """Build the network with random initial weights, drawn from torch's default generator."""
        return create(self.name, self.num_classes, self.dropout, self.drop_path, **self.options)

    @property
    def head(self) -> str:
        """The name of the classifier, the first part of its keys in the state dict."""
        return NETWORKS[self.name].head

    def to_json(self) -> Dict[str, Any]:
        """The fields as JSON values; `NetworkSpec(**content)` is the inverse."""
        return dataclasses.asdict(self)

    def text(self) -> str:
        """One line for the log: the name and what differs from the defaults."""
        parts = [self.name, f"{self.num_classes} classes"]
        parts += [f"dropout {self.dropout:g}"] if self.dropout is not None else []
        parts += [f"drop-path {self.drop_path:g}"] if self.drop_path else []
        parts += ["auxiliary head"] if self.options.get("auxiliary_head") else []
        if "zero_pad" in self.options:
            parts.append("with zero padding" if self.options["zero_pad"] else "without zero padding")
        return ", ".join(parts)


def parameters(network: nn.Module) -> int:
    """How many numbers the network learns, frozen ones included."""
    return sum(parameter.numel() for parameter in network.parameters())
