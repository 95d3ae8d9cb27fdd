"""What a file of weights does not show in its tensors: who wrote it, and what its network expects.

The same tensors fit PNASNet with and without zero padding, and images that are normalised or not; only one of these is
the network that was trained.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Mapping, Optional, Tuple

from shared.recipes.imagenet import NORMALISATIONS
from torch_imagenet.networks.registry import NETWORKS

FROM_TENSORFLOW = "cell_stem_0.conv_1x1.conv.weight"  # of PNASNet, whose published weights have a background class 0
AUXILIARY = "aux."

# By port: the keys that the program's checkpoint has, the key of the state dict first, and a tensor of its network.
_CHECKPOINTS: Dict[str, Tuple[Tuple[str, ...], str]] = {
    "senet154": (("net", "optimizer"), "layer0.conv1.weight"),
    "se_resnet50": (("state_dict", "epoch", "arch", "best_acc1"), "layer1.0.se.fc.0.weight"),
    "pnasnet5large": (("state_dict", "epoch", "acc", "best_acc"), FROM_TENSORFLOW),
}

# By network, a tensor that its weights have and those of the networks below it have not.
_TENSORS = {
    "senet154": "layer0.conv3.weight",
    "se_resnet50_caffe": "layer0.conv1.weight",
    "se_resnet50": "layer1.0.se.fc.0.weight",
    "pnasnet5large": FROM_TENSORFLOW,
}


def network_of(state: Mapping[str, Any]) -> Optional[str]:
    """The network that alone can have this state dict, without prefixes; None where it is of none. Loading tells."""
    return next((name for name, tensor in _TENSORS.items() if tensor in state), None)


def port_of(content: Any) -> Optional[str]:
    """The old port whose program wrote this content of a file, by its name in `--port`; None where none did.

    Recognised are the checkpoints of the three programs, whatever they are called, and PNASNet's state dict alone where
    its keys still begin with "module.". This program's own files, which have the same keys with --original-names, name
    their network in `arch`; the old SE-ResNet-50's says resnext101_32x8d.
    """
    if not isinstance(content, Mapping) or content.get("arch") in tuple(NETWORKS):
        return None
    for port, (keys, tensor) in _CHECKPOINTS.items():
        state = content.get(keys[0])
        if all(key in content for key in keys) and isinstance(state, Mapping) and _has(state, tensor):
            return port
    of_pnasnet = f"module.{FROM_TENSORFLOW}" in content and f"module.{AUXILIARY}classifier.weight" in content
    return "pnasnet5large" if of_pnasnet else None


def _has(state: Mapping[str, Any], tensor: str) -> bool:
    return tensor in state or f"module.{tensor}" in state


@dataclass(frozen=True)
class Form:
    """What the network of some weights expects. The defaults are those of the weights that are published."""

    zero_pad: bool = True  # of PNASNet
    normalisation: str = "own"
    port: Optional[str] = None  # whose old program wrote the file
    known: bool = True  # whether the file says so, or it is assumed

    @classmethod
    def of_recipe(cls, recipe: Mapping[str, Any]) -> Form:
        """Of weights trained by a recipe, as JSON has it; an older one without these fields had the defaults."""
        return cls(recipe.get("zero_pad", True), recipe.get("normalisation", "own"))

    @classmethod
    def of_file(cls, content: Any) -> Form:
        """Of a file's content: as its program ran for one of the old PNASNet port, as stored in one of this program."""
        port = port_of(content)
        if port == "pnasnet5large":
            return cls(False, "none", port)
        stored = stored_metadata(content)
        zero_pad, normalisation = stored.get("zero_pad"), stored.get("normalisation")
        if isinstance(zero_pad, bool) and normalisation in NORMALISATIONS:
            return cls(zero_pad, normalisation)
        return cls(port=port, known=port is not None)

    def stored(self) -> Dict[str, Any]:
        """For the metadata of a state dict."""
        return {"zero_pad": self.zero_pad, "normalisation": self.normalisation}


def own_metadata(state: Any) -> Dict[str, Any]:
    """What this program keeps in the `_metadata` of a state dict, where `nn.Module` keeps version numbers."""
    metadata = getattr(state, "_metadata", None)
    own = metadata.get("") if isinstance(metadata, dict) else None
    return own if isinstance(own, dict) else {}


def stored_metadata(content: Any) -> Dict[str, Any]:
    """The same of a file's content, which is the state dict or holds it under any key."""
    inside = content.values() if isinstance(content, Mapping) else ()
    return next(filter(None, map(own_metadata, (content, *inside))), {})


def is_ambiguous(content: Any) -> bool:
    """Whether these are weights of PNASNet with the ports' auxiliary head, and nothing says how they were trained."""
    inside = content.values() if isinstance(content, Mapping) else ()
    states = [state for state in (content, *inside) if isinstance(state, Mapping)]
    head = f"{AUXILIARY}classifier.weight"
    return any(_has(state, head) for state in states) and not Form.of_file(content).known
