"""Operators on lists of tensors: one kernel for all of them where the device supports it."""

from __future__ import annotations

from typing import Sequence

import torch


def copy_all(targets: Sequence[torch.Tensor], sources: Sequence[torch.Tensor], supports_foreach: bool) -> None:
    """Copy each source into the target of the same position and shape."""
    if supports_foreach and targets:  # torch._foreach_copy_ refuses empty lists
        torch._foreach_copy_(list(targets), list(sources))
        return
    for target, source in zip(targets, sources):
        target.copy_(source)
