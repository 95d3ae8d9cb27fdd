"""Logits of every floating-point type, and what `Metrics` counts of them, for the tests of both frameworks' tensors."""

from __future__ import annotations

from typing import Any, Dict, Tuple

import numpy as np

from shared.metrics import Metrics


def batch(kind: str) -> Tuple[np.ndarray, np.ndarray]:
    """Logits [40, 7] of a type that NumPy may lack, as NumPy's nearest type that has their values; labels."""
    random = np.random.RandomState(3)
    logits = random.randn(40, 7).astype(np.float32)
    if kind == "bfloat16":
        logits = (logits.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    return logits if kind == "bfloat16" else logits.astype(kind), random.randint(0, 7, 40)


def counted(*arguments: Any) -> Dict[str, Any]:
    """The state of `Metrics` of 7 classes after one update with these."""
    metrics = Metrics(7)
    metrics.update(*arguments)
    return metrics.to_state()
