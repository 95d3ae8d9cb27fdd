"""Out-of-memory errors as one line with an estimate of the batch size that fits."""

from __future__ import annotations

import contextlib
from typing import Iterator

import tensorflow as tf

from shared.errors import RunEnded


@contextlib.contextmanager
def limited(images: int, option: str, instead: str) -> Iterator[None]:
    """Around a session call with so many images a device, which `option` sets; `instead`: what the smaller one means.

    Raises RunEnded where memory runs out.
    """
    try:
        yield
    except (tf.errors.ResourceExhaustedError, MemoryError) as error:
        smaller = 1 << max(0, (images // 2).bit_length() - 1)  # half or less, a power of two
        if images > 1:
            advice = f"try {option} {smaller}, an estimate{instead}, or end what else is using it"
        else:
            advice = "end what else is using it"
        raise RunEnded(f"the device has no memory left for a batch of {images}; {advice}") from error
