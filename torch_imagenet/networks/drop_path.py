"""Stochastic depth (Huang et al., arXiv 1603.09382): in training, a branch is left out for some of the samples."""

from __future__ import annotations

import torch
from torch import nn


class DropPath(nn.Module):
    """Zeroes x [B, ...] for each sample with probability `rate` and divides what is left by 1 - rate, in training.

    The expectation is x, so nothing is to be scaled in evaluation. At rate 0 it is not in the graph at all. It has
    neither parameters nor buffers: state dicts do not know of it.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x or a part of its samples, same shape and dtype."""
        if self.rate == 0 or not self.training:
            return x
        keep = 1 - self.rate
        mask = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(keep)
        return x * (mask / keep)

    def extra_repr(self) -> str:
        """The rate, where the network is printed."""
        return f"rate={self.rate:g}"
