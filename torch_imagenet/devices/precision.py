"""The precision levels: O0, O1 and O2, as in NVIDIA apex, bf16 and bf16_weights.

O0 is float32. O1 is autocast to float16. O2 holds weights, inputs and gradients in float16, batch normalisation and the
optimizer's master weights in float32. The float16 levels scale the loss so that small gradients do not underflow. bf16
is autocast to bfloat16, which has the range of float32 and needs no loss scaling. bf16_weights is O2 in bfloat16: no
weight is cast in a step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

import torch
from torch import nn

from shared.errors import UsageError
from shared.text import nearest


@dataclass(frozen=True)
class Precision:
    """One level: `weights` is the dtype of convolutions and linear layers, `autocast` the dtype of their arithmetic."""

    name: str
    autocast: Optional[torch.dtype] = None
    weights: torch.dtype = torch.float32
    loss_scale: Optional[str] = None  # the default; a recipe or an option overrides it


_LEVELS = (
    Precision("O0"),
    Precision("O1", autocast=torch.float16, loss_scale="dynamic"),
    Precision("O2", weights=torch.float16, loss_scale="dynamic"),
    Precision("bf16", autocast=torch.bfloat16),
    Precision("bf16_weights", weights=torch.bfloat16),
)
PRECISIONS = {level.name: level for level in _LEVELS}


def precision(name: str) -> Precision:
    """Look up a level by name. Raises UsageError with the nearest name where there is none."""
    if name not in PRECISIONS:
        raise UsageError(f"unknown precision {name!r}; {nearest(name, PRECISIONS)}")
    return PRECISIONS[name]


def multiply_in_tf32(kind: str, wanted: Optional[bool]) -> None:
    """Let all float32 layers of a kind of device multiply in TF32, or none of them; None leaves it as torch has it.

    NVIDIA GPUs from Ampere on do so in convolutions by default, and not in linear layers. Raises UsageError for True on
    another kind of device.
    """
    if wanted is None:
        return
    if kind == "cuda":
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = wanted
    elif wanted:
        raise UsageError(f"--tf32 is for NVIDIA GPUs and this is a {kind} device; leave it out")


def to_half(network: nn.Module, dtype: torch.dtype) -> None:
    """Convert all parameters to `dtype`, except those of batch normalisation."""
    for module in network.modules():
        if not isinstance(module, nn.modules.batchnorm._BatchNorm):
            for parameter in module.parameters(recurse=False):
                parameter.data = parameter.data.to(dtype)
