"""Facts about each network that need no torch: its input, its head, its options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Optional, Tuple

RGB = Tuple[float, float, float]
# Mean and deviation of RGB values in [0, 1], by name.
NORMALISATIONS: Dict[str, Tuple[RGB, RGB]] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "inception": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}


@dataclass(frozen=True)
class Spec:
    """Facts about one network."""

    image_size: int = 224  # the side of its square input in pixels
    crop_fraction: float = 0.875  # evaluation scales an image's shorter side to image_size / crop_fraction, then crops
    normalisation: str = "imagenet"
    head: str = "last_linear"  # the last linear layer
    auxiliary_head: Optional[str] = None  # the auxiliary classifier where there can be one
    dropout: float = 0.0  # the default rate before the head
    options: Tuple[str, ...] = ()  # further arguments of `create`


NETWORKS: Dict[str, Spec] = {
    "senet154": Spec(dropout=0.2),
    "se_resnet50": Spec(head="fc"),
    "se_resnet50_caffe": Spec(),
    "pnasnet5large": Spec(
        image_size=331,
        normalisation="inception",
        auxiliary_head="aux.classifier",
        dropout=0.5,
        options=("zero_pad", "auxiliary_head"),
    ),
}


def mean_and_std(network: str, normalisation: str = "own") -> Tuple[RGB, RGB]:
    """Of a network's inputs under this `--normalisation`, of which "own" is the network's."""
    return NORMALISATIONS[NETWORKS[network].normalisation if normalisation == "own" else normalisation]
