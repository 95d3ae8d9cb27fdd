"""An exponential moving average (EMA) of the weights, used for evaluation (Polyak and Juditsky, 1992)."""

from __future__ import annotations

import contextlib
from typing import Dict, Iterator, Mapping

import torch

from torch_imagenet.step.optimizer import Weights


class WeightAverage:
    """average = decay * average + (1 - decay) * weights, in float32, on the device.

    The running statistics of batch normalisation are averaged too. Integer buffers are not.
    """

    def __init__(self, weights: Weights, decay: float) -> None:
        self._weights, self._decay = weights, decay
        self._sources = {name: value for name, value in weights.state_dict().items() if value.is_floating_point()}
        self._averages = {name: value.detach().clone() for name, value in self._sources.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Add the current weights to the average; called after every step."""
        averages, sources = list(self._averages.values()), list(self._sources.values())
        if self._weights.supports_foreach:
            torch._foreach_lerp_(averages, sources, 1.0 - self._decay)
            return
        for average, source in zip(averages, sources):
            average.lerp_(source, 1.0 - self._decay)

    def state_dict(self) -> Dict[str, torch.Tensor]:
        """The averaged entries of the state dict of the network."""
        return dict(self._averages)

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Restore the average from the result of `state_dict`."""
        for name, average in self._averages.items():
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
