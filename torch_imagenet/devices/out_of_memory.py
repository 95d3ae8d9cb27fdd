"""A device, or the machine, that has no memory left for a batch: found, and a batch that fits found by trying."""

from __future__ import annotations

import gc
import traceback
from typing import Any, Callable, List, Optional

import torch

from shared.errors import RunEnded

# CUDA's, torch_npu's, and what the CPU's allocator says; torch_npu and the allocator raise plain RuntimeErrors.
_WORDS = ("out of memory", "can't allocate memory", "cannot allocate memory", "could not allocate", "std::bad_alloc")


def is_out(error: BaseException) -> bool:
    """Whether memory has run out, the device's or the machine's."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(word in text for word in _WORDS)


def forget(error: BaseException, device: Any) -> None:
    """Give back what the calls that failed were holding."""
    chained: Optional[BaseException] = error
    while chained is not None:
        traceback.clear_frames(chained.__traceback__)
        chained = chained.__context__
    gc.collect()
    if device.asynchronous:
        device.module.empty_cache()


def fitting(size: int, attempt: Callable[[int], Any], device: Any) -> Optional[int]:
    """The first of half the size, a quarter and so on at which `attempt` finds memory; None where none does."""
    while size > 1:
        size = (size + 1) // 2
        try:
            attempt(size)
            device.synchronize()
            return size
        except (RuntimeError, MemoryError, ValueError) as error:  # the last of a batch of one that cannot be normalised
            if not is_out(error):
                return None
            forget(error, device)
    return None


def training(device: Any, size: int, fits: Optional[int], accumulate: int, tried: bool = True) -> RunEnded:
    """The error of a step of `accumulate` batches with `size` images each, of which `fits` would fit."""
    if fits is None:
        return RunEnded(f"{_nothing_left(device)} for a batch of {size}, nor for a smaller one; {_OTHERS}")
    parts = size // fits
    same = (
        f" --accumulate {parts * accumulate}, the same {size * accumulate} images a step,"
        if parts * fits == size
        else ""
    )
    how = "fits (tried just now)" if tried else "may fit"
    return RunEnded(f"{_nothing_left(device)} for a batch of {size}; --batch-size {fits}{same} {how}, or {_OTHERS}")


def evaluation(device: Any, size: int, fits: Optional[int]) -> RunEnded:
    """The error of an evaluation with `size` images a batch."""
    if fits is None:
        return RunEnded(f"{_nothing_left(device)} to evaluate a batch of {size}, nor one image; {_OTHERS}")
    return RunEnded(
        f"{_nothing_left(device)} to evaluate a batch of {size}; --eval-batch-size {fits} fits (tried just now), or"
        f" {_OTHERS}"
    )


def limited(logits: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor, device: Any) -> torch.Tensor:
    """`logits` of these images. Raises RunEnded, which names a number of images that fits, where memory runs out."""
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
    """As much memory as a first step will still take for the optimizer's own numbers, so that a trial counts it."""
    return [] if optimizer.state else [torch.empty_like(weight) for weight in weights]
