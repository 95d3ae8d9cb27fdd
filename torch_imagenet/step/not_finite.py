"""Locates the first NaN or infinity in a network, once a run has failed."""

from __future__ import annotations

from functools import partial
from typing import Any, Callable, Iterable, Iterator, List, Mapping, Optional, Tuple

import numpy as np
import torch
from torch import nn

from shared.run.divergence import first_not_finite, with_ranges


def in_state(network: nn.Module, weights: Mapping[str, torch.Tensor]) -> str:
    """The first buffer, else the first of `weights`, that is not finite; see `first_not_finite`."""
    return first_not_finite(_as_numpy([*network.named_buffers(), *weights.items()]))


def layer_of(network: nn.Module, forward: Callable[[], Any]) -> Optional[str]:
    """The first layer whose output in this forward pass is not finite, with the ranges of its tensors; None if none."""
    found: List[str] = []

    def check(name: str, layer: nn.Module, inputs: Any, output: Any) -> None:
        if not found and isinstance(output, torch.Tensor) and not bool(torch.isfinite(output).all()):
            tensors = [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]
            found.append(with_ranges(name, _as_numpy(tensors)))

    # The hook of a block runs after those of its layers, so a block is named only where its own arithmetic failed.
    hooks = [layer.register_forward_hook(partial(check, name)) for name, layer in network.named_modules() if name]
    try:
        forward()
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found else None


def _as_numpy(tensors: Iterable[Tuple[str, torch.Tensor]]) -> Iterator[Tuple[str, np.ndarray]]:
    for name, tensor in tensors:
        if tensor.is_floating_point():
            yield name, tensor.detach().float().cpu().numpy()
