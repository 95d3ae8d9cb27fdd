"""Facts about each network that need no torch: its input, its head, its options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Optional, Tuple

from shared.errors import UsageError
from shared.text import nearest

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Spec:
    """Facts about one network.

    `image_size` is the side of its square input in pixels. Evaluation scales the shorter side of an image to
    `image_size / crop_fraction` before the centre crop. `mean` and `std` normalise RGB values in [0, 1]. `head` is the
    name of the last linear layer, `auxiliary_head` that of the auxiliary classifier where there can be one. `dropout`
    is the default rate; `options` are the further arguments of `create`.
    """

    image_size: int = 224
    crop_fraction: float = 0.875
    mean: Tuple[float, float, float] = IMAGENET_MEAN
    std: Tuple[float, float, float] = IMAGENET_STD
    head: str = "last_linear"
    auxiliary_head: Optional[str] = None
    dropout: float = 0.0
    options: Tuple[str, ...] = ()


NETWORKS: Dict[str, Spec] = {
    "senet154": Spec(dropout=0.2),
    "se_resnet50": Spec(head="fc"),
    "se_resnet50_caffe": Spec(),
    "pnasnet5large": Spec(
        image_size=331,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        auxiliary_head="aux.classifier",
        dropout=0.5,
        options=("zero_pad", "auxiliary_head"),
    ),
}


def find(name: str) -> Spec:
    """Look up a network by name. Raises UsageError with the nearest name where there is none."""
    if name not in NETWORKS:
        raise UsageError(f"unknown network {name!r}; {nearest(name, NETWORKS)}")
    return NETWORKS[name]
