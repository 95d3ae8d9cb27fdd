"""Out of memory: recognises the error, and finds by trial a batch size that fits."""

from __future__ import annotations

import gc
import traceback
from typing import Any, Callable, Optional

import torch

from shared.errors import RunEnded

# Of CUDA, its libraries, torch_npu and the CPU allocator; all but the first raise plain RuntimeErrors.
_MESSAGES = (
    *("out of memory", "can't allocate memory", "cannot allocate memory", "could not allocate", "std::bad_alloc"),
    *("cublas_status_alloc_failed", "cudnn_status_alloc_failed"),
)


def recovered(error: BaseException, device: Any) -> bool:
    """Whether memory had run out; then the tensors that the frames of the failed calls hold are freed."""
    plain = isinstance(error, RuntimeError) and any(message in str(error).lower() for message in _MESSAGES)
    if not plain and not isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return False
    chained: Optional[BaseException] = error
    while chained is not None:
        traceback.clear_frames(chained.__traceback__)
        chained = chained.__context__
    gc.collect()
    if device.asynchronous:
        device.module.empty_cache()
    return True


def fitting(size: int, attempt: Callable[[int], Any], device: Any) -> Optional[int]:
    """The largest of half the size, a quarter, and so on, for which `attempt` succeeds; None if none does."""
    while size > 1:
        size = (size + 1) // 2
        try:
            attempt(size)
            device.synchronize()
            return size
        except (RuntimeError, MemoryError, ValueError) as error:  # ValueError: batch normalisation of one value
            if not recovered(error, device):
                return None
    return None


def training(device: Any, size: int, fits: Optional[int], accumulate: int, tried: bool = True) -> RunEnded:
    """The error of a step of `accumulate` batches with `size` images each, where batches of `fits` images would fit."""
    if fits is None:
        return _ended(device, f"for a batch of {size}, nor for a smaller one;")
    how, parts = "fits (tried just now)" if tried else "may fit", size // fits
    if parts * fits == size:
        how = f"--accumulate {parts * accumulate}, the same {size * accumulate} images a step, {how}"
    return _ended(device, f"for a batch of {size}; --batch-size {fits} {how}, or")


def limited(
    logits: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor, device: Any, option: str = "--eval-batch-size"
) -> torch.Tensor:
    """`logits` of these images. Raises RunEnded, naming a size of this option that fits, where memory runs out."""
    try:
        return logits(images)
    except (RuntimeError, MemoryError) as error:
        if not recovered(error, device):
            raise
    fits = fitting(len(images), lambda size: logits(images[:size]), device)
    advice = f"; {option} {fits} fits (tried just now), or" if fits else ", nor one image;"
    raise _ended(device, f"to evaluate a batch of {len(images)}{advice}")


def _ended(device: Any, what: str) -> RunEnded:
    name = device.name if device.asynchronous else "this machine"
    return RunEnded(f"{name} has no memory left {what} end what else is using it")
