"""Layer names as TensorFlow 1.x gives them: `conv2d`, `conv2d_1`, ..., in the order of creation."""

from __future__ import annotations

import collections
from typing import Counter


class LayerNames:
    """Numbers the layers of one network, so that its variables are named as in the original's checkpoints."""

    def __init__(self) -> None:
        self._counts: Counter[str] = collections.Counter()

    def next(self, kind: str) -> str:
        """The next name of this kind: "dense", then "dense_1", ..."""
        count = self._counts[kind]
        self._counts[kind] += 1
        return f"{kind}_{count}" if count else kind
