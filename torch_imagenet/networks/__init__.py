"""The ImageNet networks: `create` builds one; `NETWORKS` describes each of them without importing torch.

network = create("senet154", num_classes=1000, drop_path=0.1)
logits = network(images)                                # float32 [B, 3, 224, 224] -> [B, 1000]
maps = network.forward_intermediates(images, intermediates_only=True)   # see `classifier.ImageClassifier`
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, Optional

from shared.errors import UsageError
from shared.text import nearest
from torch_imagenet.networks.registry import NETWORKS

if TYPE_CHECKING:
    from torch_imagenet.networks.classifier import ImageClassifier

__all__ = ["NETWORKS", "create"]


def create(
    name: str, num_classes: int = 1000, dropout: Optional[float] = None, drop_path: float = 0.0, **settings: Any
) -> ImageClassifier:
    """Build a network by name, with random initial weights, in training mode.

    `dropout` is the rate before the classifier; None is the network's default. `drop_path` is the rate of stochastic
    depth at the deepest block. Only pnasnet5large has `settings`: `zero_pad=False` pads as the original port does,
    `auxiliary_head=True` adds the auxiliary classifier, whose logits are returned as a second output in training.

    Raises UsageError for an unknown name or option, with the nearest valid one, and for values out of range.
    """
    if name not in NETWORKS:
        raise UsageError(f"unknown network {name!r}; {nearest(name, NETWORKS)}")
    spec = NETWORKS[name]
    for option in settings:
        if option not in spec.options:
            hint = nearest(option, spec.options) if spec.options else "leave it out, this network has none"
            raise UsageError(f"{name} has no option {option!r}; {hint}")
    if num_classes < 1:
        raise UsageError(f"a network cannot have {num_classes} classes; give at least 1")
    rate = spec.dropout if dropout is None else dropout
    for label, value in (("dropout", rate), ("drop path", drop_path)):
        if not 0 <= value < 1:
            raise UsageError(f"a {label} rate cannot be {value}; give a number from 0 up to, not including, 1")
    # torch is imported only here, because --help and the recipes must work where it is not installed.
    from torch_imagenet.networks.pnasnet import PNASNet5Large
    from torch_imagenet.networks.se_resnet50 import SEResNet50
    from torch_imagenet.networks.senet import se_resnet50_caffe, senet154

    builders: Dict[str, Any] = {
        "senet154": senet154,
        "se_resnet50": SEResNet50,
        "se_resnet50_caffe": se_resnet50_caffe,
        "pnasnet5large": PNASNet5Large,
    }
    return builders[name](num_classes=num_classes, dropout=rate, drop_path=drop_path, **settings)
