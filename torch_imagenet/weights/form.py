"""What a file of weights does not show in its tensors: who wrote it, and what its network expects.

The same tensors fit PNASNet with and without zero padding, and images that are normalised or not; only one of these is
the network that was trained.
"""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional, Tuple

from torch_imagenet.networks.registry import NETWORKS

FROM_TENSORFLOW = "cell_stem_0.conv_1x1.conv.weight"  # of PNASNet, whose published weights have a background class 0
AUXILIARY = "aux."

# By port: the keys that the program's checkpoint has, the key of the state dict first, and a tensor of its network.
_CHECKPOINTS: Dict[str, Tuple[Tuple[str, ...], str]] = {
    "senet154": (("net", "optimizer"), "layer0.conv1.weight"),
    "se_resnet50": (("state_dict", "epoch", "arch", "best_acc1"), "layer1.0.se.fc.0.weight"),
    "pnasnet5large": (("state_dict", "epoch", "acc", "best_acc"), FROM_TENSORFLOW),
}


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
