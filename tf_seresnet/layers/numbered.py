"""Layer names as TensorFlow 1.x gave them: `conv2d`, `conv2d_1`, ..., in the order of creation."""

from __future__ import annotations

import collections
from typing import Counter


class Numbered:
    """Hands out the names that make a graph's variables those of the original's checkpoints."""

    def __init__(self) -> None:
        self._made: Counter[str] = collections.Counter()

    def name(self, kind: str) -> str:
        """The next name of this kind: "dense", then "dense_1", ..."""
        count = self._made[kind]
        self._made[kind] += 1
        return f"{kind}_{count}" if count else kind
