"""Normalisation on the device, so that images are transferred as uint8, a quarter of the bytes of float32."""

from __future__ import annotations

from typing import Tuple

import torch


class Normalisation:
    """uint8 [B, H, W, 3] -> `dtype` [B, 3, H, W]: (pixel / 255 - mean) / std for each channel, computed in float32.

    With `channels_last` the result keeps the memory order of the input, and nothing is transposed.
    """

    def __init__(
        self,
        mean: Tuple[float, ...],
        std: Tuple[float, ...],
        device: torch.device,
        dtype: torch.dtype,
        channels_last: bool,
    ) -> None:
        deviation = torch.tensor(std, dtype=torch.float64) * 255
        self._scale = (1 / deviation).float().to(device)
        self._shift = (-torch.tensor(mean, dtype=torch.float64) * 255 / deviation).float().to(device)
        self._dtype = dtype
        self._format = torch.channels_last if channels_last else torch.contiguous_format

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """See the class; `images` is on the device."""
        # On whole rows and in place: broadcasting over 3 channels into new memory takes twice as long on a CPU.
        width = images.shape[2]
        rows = images.flatten(2).float()
        torch.addcmul(self._shift.repeat(width), rows, self._scale.repeat(width), out=rows)
        normalised = rows.unflatten(2, (width, 3)).to(self._dtype).permute(0, 3, 1, 2)
        return normalised.contiguous(memory_format=self._format)
