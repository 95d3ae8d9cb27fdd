"""ImageNet and data sets of its layouts: class folders, flat validation images, tar shards."""

from __future__ import annotations

from shared.imagenet.dataset import FOLDER, ImageNet, load
from shared.imagenet.layout import OFFICIAL_NAME, UNNAMED, find
from shared.imagenet.split import Split

__all__ = ["FOLDER", "OFFICIAL_NAME", "UNNAMED", "ImageNet", "Split", "find", "load"]
