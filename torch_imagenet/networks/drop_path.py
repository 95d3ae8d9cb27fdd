"""Stochastic depth (Huang et al., arXiv 1603.09382): training drops a residual branch for some of the samples."""

from __future__ import annotations

import torch
from torch import nn


class DropPath(nn.Module):
    """In training, zeroes x [B, ...] per sample with probability `rate` and divides the rest by 1 - rate.

    The expectation is x, so evaluation needs no scaling. At rate 0 it adds nothing to the graph. It has no parameters
    or buffers, so state dicts do not contain it.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.rate == 0 or not self.training:
            return x
        keep = 1 - self.rate
        mask = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(keep)
        return x * (mask / keep)
