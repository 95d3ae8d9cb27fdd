"""Evaluation's transform of images as a part of a network's graph, for files that take photographs of any size."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from torch_imagenet.input_pipeline.transforms import EvalTransform


def resized(images: torch.Tensor, transform: EvalTransform) -> torch.Tensor:
    """uint8 [B, H, W, 3] of any H and W as float32 [B, S, S, 3] of whole numbers, 0 to 255, by this transform.

    It must keep the aspect ratio. Resized in two passes as Pillow does, across and then down, each rounded to whole
    numbers, half a level upwards. Pillow computes with whole numbers, so that some pixels in a thousand are one level
    off. H and W may be symbols of torch.export.
    """
    height, width = images.shape[1:3]
    size, shorter = transform.image_size, torch.sym_min(height, width)
    down, across = (transform.shorter_side * length // shorter for length in (height, width))
    x = images.permute(0, 3, 1, 2).float()
    for shape in ((height, across), (down, across)):
        x = functional.interpolate(x, shape, mode="bilinear", antialias=True).add(0.5).floor()
    top, left = _crop_start(down - size), _crop_start(across - size)
    return x[:, :, top : top + size, left : left + size].permute(0, 2, 3, 1)


def _crop_start(excess: Any) -> Any:
    """round(excess / 2), half to even, without a branch."""
    return excess // 2 + excess % 4 // 3
