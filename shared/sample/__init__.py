"""The embedded sample: 1,797 handwritten digits in the layout of either data set, used when none is named."""

from __future__ import annotations

from shared.sample.dataset import NAME, TEST_IMAGES, TRAIN_IMAGES, cifar10_folder, imagenet_folder, is_cached

__all__ = ["NAME", "TEST_IMAGES", "TRAIN_IMAGES", "cifar10_folder", "imagenet_folder", "is_cached"]
