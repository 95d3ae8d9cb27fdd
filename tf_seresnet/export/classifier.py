"""What is written in every format: a network with its weights, images in and logits out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Dict, Optional

import numpy as np

from tf_seresnet.step.spec import NetworkSpec, Normalisation

SIDE = 32  # pixels
IMAGES, LOGITS = "images", "logits"  # the names of input and output
METADATA, CLASS_NAMES = "metadata", "class_names"  # of constants in a graph
METADATA_FILE = "classifier.json"  # in formats that hold files; a .keras file has a metadata.json of its own


@dataclass(frozen=True)
class Classifier:
    """A network whose input `images` is float32 [B, 32, 32, 3], RGB and normalised; with `normalise` uint8.

    Its output `logits` is float32 [B, classes]. `values` are float32 arrays by the graph's names of variables.
    `batch_size` is B, or None for any. `half` stores the weights in float16.
    """

    network: NetworkSpec
    values: Dict[str, np.ndarray]
    normalise: Optional[Normalisation]
    batch_size: Optional[int]
    half: bool
    metadata: Dict[str, Any]

    @property
    def metadata_text(self) -> str:
        """The metadata as JSON in ASCII, whatever the names of the classes are."""
        return json.dumps(self.metadata)
