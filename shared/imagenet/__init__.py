"""ImageNet and data sets of its layouts: class folders, flat validation images, tar shards."""

from __future__ import annotations

from shared.imagenet.dataset import FOLDER, OFFICIAL_NAME, UNNAMED, ImageNet, Split, find, load

__all__ = ["FOLDER", "OFFICIAL_NAME", "UNNAMED", "ImageNet", "Split", "find", "load"]
