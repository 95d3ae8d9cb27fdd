"""Out of memory: recognises the error, and finds by trial a batch size that fits."""

from __future__ import annotations

import gc
import traceback
from typing import Any, Callable, List, Optional

import torch

from shared.errors import RunEnded

# Of CUDA, torch_npu and the CPU allocator; the last two raise plain RuntimeErrors.
_MESSAGES = ("out of memory", "can't allocate memory", "cannot allocate memory", "could not allocate", "std::bad_alloc")


def is_out(error: BaseException) -> bool:
    """Whether the device or the host has run out of memory."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(message in text for message in _MESSAGES)


def forget(error: BaseException, device: Any) -> None:
    """Free the tensors that the frames of the failed calls hold."""
    chained: Optional[BaseException] = error
    while chained is not None:
        traceback.clear_frames(chained.__traceback__)
        chained = chained.__context__
    gc.collect()
    if device.asynchronous:
        device.module.empty_cache()


def fitting(size: int, attempt: Callable[[int], Any], device: Any) -> Optional[int]:
    """The largest of half the size, a quarter, and so on, for which `attempt` succeeds; None if none does."""
    while size > 1:
        size = (size + 1) // 2
        try:
            attempt(size)
            device.synchronize()
            return size
        except (RuntimeError, MemoryError, ValueError) as error:  # ValueError: batch normalisation of one value
            if not is_out(error):
                return None
            forget(error, device)
    return None


def training(device: Any, size: int, fits: Optional[int], accumulate: int, tried: bool = True) -> RunEnded:
    """The error of a step of `accumulate` batches with `size` images each, where batches of `fits` images would fit."""
    if fits is None:
        return RunEnded(f"{_nothing_left(device)} for a batch of {size}, nor for a smaller one; {_OTHERS}")
    parts = size // fits
    equivalent = (
        f" --accumulate {parts * accumulate}, the same {size * accumulate} images a step,"
        if parts * fits == size
        else ""
    )
    how = "fits (tried just now)" if tried else "may fit"
    return RunEnded(
        f"{_nothing_left(device)} for a batch of {size}; --batch-size {fits}{equivalent} {how}, or {_OTHERS}"
    )


def evaluation(device: Any, size: int, fits: Optional[int]) -> RunEnded:
    """The error of an evaluation with batches of `size` images."""
    if fits is None:
        return RunEnded(f"{_nothing_left(device)} to evaluate a batch of {size}, nor one image; {_OTHERS}")
    return RunEnded(
        f"{_nothing_left(device)} to evaluate a batch of {size}; --eval-batch-size {fits} fits (tried just now), or"
        f" {_OTHERS}"
    )


def limited(logits: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor, device: Any) -> torch.Tensor:
    """`logits` of these images. Raises RunEnded, naming a batch size that fits, where memory runs out."""
    try:
        return logits(images)
    except (RuntimeError, MemoryError) as error:
        if not is_out(error):
            raise
        forget(error, device)
    fits = fitting(len(images), lambda size: logits(images[:size]), device)
    raise evaluation(device, len(images), fits)


_OTHERS = "end what else is using it"


def _nothing_left(device: Any) -> str:
    return f"{device.name} has no memory left" if device.asynchronous else "this machine has no memory left"


def of_first_step(weights: List[torch.Tensor], optimizer: Any) -> List[torch.Tensor]:
    """Allocates what the first step allocates for the optimizer's state, so that a trial includes it."""
    return [] if optimizer.state else [torch.empty_like(weight) for weight in weights]
