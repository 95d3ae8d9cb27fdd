"""Imports torchvision even where its wheel does not fit torch: its wheel for CUDA beside a torch for CPU."""

from __future__ import annotations

import importlib
from typing import Any, List

import torch

_kept: List[Any] = []  # a torch.library.Library removes its definitions when it is collected


def import_torchvision() -> Any:
    """torchvision. Raises ModuleNotFoundError where it is not installed.

    Where its compiled operators cannot be loaded, its import fails for want of two of them. They are declared here;
    transforms, networks and timm never call them.
    """
    try:
        return importlib.import_module("torchvision")
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _kept.append(library)
        return importlib.import_module("torchvision")
