"""Facts about each network that need no torch: its input, its head, its options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Optional, Tuple


@dataclass(frozen=True)
class Spec:
    """Facts about one network."""

    image_size: int = 224  # the side of its square input in pixels
    crop_fraction: float = 0.875  # evaluation scales an image's shorter side to image_size / crop_fraction, then crops
    mean: Tuple[float, float, float] = (0.485, 0.456, 0.406)  # of RGB values in [0, 1]; ImageNet's
    std: Tuple[float, float, float] = (0.229, 0.224, 0.225)
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
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        auxiliary_head="aux.classifier",
        dropout=0.5,
        options=("zero_pad", "auxiliary_head"),
    ),
}
