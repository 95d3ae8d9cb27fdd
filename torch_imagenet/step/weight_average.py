"""An exponential moving average (EMA) of the weights, used for evaluation (Polyak and Juditsky, 1992)."""

from __future__ import annotations

import contextlib
from typing import Dict, Iterator, List, Mapping

import torch

from torch_imagenet.step.optimizer import Weights


class WeightAverage:
    """average = decay * average + (1 - decay) * weights, in float32, on the device.

    The running statistics of batch normalisation are averaged too. Integer buffers are not.
    """

    def __init__(self, weights: Weights, decay: float) -> None:
        self._weights = weights
        self._decay = decay
        state = weights.state_dict()
        self._names: List[str] = [name for name, value in state.items() if value.is_floating_point()]
        self._sources = [state[name] for name in self._names]
        self._averages = [value.detach().clone() for value in self._sources]

    @torch.no_grad()
    def update(self) -> None:
        """Add the current weights to the average; called after every step."""
        if self._weights.supports_foreach:
            torch._foreach_lerp_(self._averages, self._sources, 1.0 - self._decay)
            return
        for average, source in zip(self._averages, self._sources):
            average.lerp_(source, 1.0 - self._decay)

    def state_dict(self) -> Dict[str, torch.Tensor]:
        """The averaged entries of the state dict of the network."""
        return dict(zip(self._names, self._averages))

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Restore the average from the result of `state_dict`."""
        for name, average in zip(self._names, self._averages):
            average.copy_(state[name])

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """The network has the averaged weights inside the context and its own again after it."""
        kept = {name: value.clone() for name, value in self._weights.state_dict().items()}
        self._weights.load_state_dict({**kept, **self.state_dict()})
        try:
            yield
        finally:
            self._weights.load_state_dict(kept)
