"""Resizing in torch against Pillow's, pixel by pixel. As a graph, for images of any size, it is in test_export.py."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from PIL import Image  # noqa: E402

from torch_imagenet.input_pipeline.in_graph import _crop_start, resized  # noqa: E402
from torch_imagenet.input_pipeline.transforms import EvalTransform  # noqa: E402

SIZES = [(500, 375), (375, 500), (333, 500), (256, 256), (101, 256), (40, 61), (32, 32), (2, 3), (300, 17)]


def noise(height, width):
    return np.random.RandomState(height).randint(0, 256, (height, width, 3)).astype(np.uint8)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_the_pixels_are_pillows(height, width):
    image, transform = noise(height, width), EvalTransform(65)
    found = resized(torch.from_numpy(image)[None], transform)[0].numpy()
    wanted = transform(Image.fromarray(image)).astype(float)
    assert found.shape == wanted.shape == (65, 65, 3)
    assert np.abs(found - wanted).max() <= 1
    assert (found != wanted).mean() < 0.02


def test_the_crop_begins_where_the_transforms_does():
    assert [_crop_start(excess) for excess in range(200)] == [round(excess / 2) for excess in range(200)]
