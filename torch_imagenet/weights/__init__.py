"""Weights from files of other libraries, into the networks of this half."""

from __future__ import annotations

from torch_imagenet.weights.load import load_weights

__all__ = ["load_weights"]
