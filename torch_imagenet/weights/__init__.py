"""Reading weights, of this program and of other libraries, into the networks."""

from __future__ import annotations

from torch_imagenet.weights.load import load_weights

__all__ = ["load_weights"]
