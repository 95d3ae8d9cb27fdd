"""Out-of-memory errors as one line with an estimate of the batch size that fits."""

from __future__ import annotations

import contextlib
from typing import Iterator

from shared.errors import RunEnded

_NAMES = ("ResourceExhaustedError", "MemoryError", "OutOfMemoryError")  # of TensorFlow, Python and torch
_JAX = "RESOURCE_EXHAUSTED"


@contextlib.contextmanager
def limited(batch_size: int, option: str, consequence: str) -> Iterator[None]:
    """Around a step with a batch of `batch_size` images per device, which `option` sets.

    Raises RunEnded if memory runs out. A graph has one batch size, so the advice is an estimate: half or less, a power
    of two. `consequence` says what a smaller batch means.
    """
    try:
        yield
    except Exception as error:
        if type(error).__name__ not in _NAMES and _JAX not in str(error):
            raise
        advice = "end what else is using it"
        if batch_size > 1:
            smaller = 1 << max(0, (batch_size // 2).bit_length() - 1)
            advice = f"try {option} {smaller}, an estimate{consequence}, or {advice}"
        raise RunEnded(f"the device has no memory left for a batch of {batch_size}; {advice}") from error
