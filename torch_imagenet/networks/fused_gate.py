"""The end of an SE block in training, relu(shortcut + gate(x) * x), as one function with its own backward pass.

Autograd would make the product, the sum, the gradient of the mean and the sum of both gradients of x as feature maps of
their own. Here the forward pass writes one map, the backward pass three: the gradient behind the ReLU, which is the
shortcut's, its product with x, and the gradient of x, in the same memory.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Optional, Tuple

import torch
from torch import nn
from torch.nn import functional


class Excitation(NamedTuple):
    """The two layers between a gate's squeeze and its sigmoid; a 1x1 convolution of a single pixel is linear."""

    reduce: torch.Tensor  # [C / 16, C], or as a convolution's weight [C / 16, C, 1, 1]
    reduce_bias: Optional[torch.Tensor]  # [C / 16]
    expand: torch.Tensor  # [C, C / 16] or [C, C / 16, 1, 1]
    expand_bias: Optional[torch.Tensor]  # [C]


def unseen(*layers: nn.Module) -> bool:
    """Whether nothing is told of what goes through these layers or the layers in them: none has a hook."""
    parts = [part for layer in layers for part in layer.modules()]
    return not any(
        part._forward_hooks or part._forward_pre_hooks or part._backward_hooks or part._backward_pre_hooks
        for part in parts
    )


def gated_residual(x: torch.Tensor, shortcut: torch.Tensor, layers: Excitation) -> torch.Tensor:
    """relu(shortcut + x * sigmoid(expand(relu(reduce(mean of x over H and W))))), x and shortcut [B, C, H, W].

    It has the dtype of x, in which the layers are computed, whatever theirs. It has a first derivative only.
    """
    return _GatedResidual.apply(x, shortcut, *layers)


class _GatedResidual(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        shortcut: torch.Tensor,
        reduce: torch.Tensor,
        reduce_bias: Optional[torch.Tensor],
        expand: torch.Tensor,
        expand_bias: Optional[torch.Tensor],
    ) -> torch.Tensor:
        mean = x.mean((2, 3))
        with torch.autocast(x.device.type, enabled=False):
            hidden = functional.relu(functional.linear(mean, *_layer(reduce, reduce_bias, x.dtype)))
            scale = torch.sigmoid(functional.linear(hidden, *_layer(expand, expand_bias, x.dtype)))
        output = torch.addcmul(shortcut.to(x.dtype), x, scale[:, :, None, None]).relu_()
        ctx.save_for_backward(x, mean, hidden, scale, output, reduce, expand)
        ctx.shortcut_dtype = shortcut.dtype
        ctx.bias_dtypes = [None if bias is None else bias.dtype for bias in (reduce_bias, expand_bias)]
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> Tuple[Optional[torch.Tensor], ...]:
        x, mean, hidden, scale, output, reduce, expand = ctx.saved_tensors
        reduce_dtype, expand_dtype = ctx.bias_dtypes
        behind = torch.ops.aten.threshold_backward(gradient, output, 0)
        map_ = behind * x
        excited = map_.sum((2, 3)) * scale * (1 - scale)  # [B, C], before the sigmoid
        reduced = (excited @ expand.flatten(1).to(x.dtype)) * (hidden > 0)  # [B, C / 16], before the ReLU
        squeezed = (reduced @ reduce.flatten(1).to(x.dtype)) / x[0, 0].numel()
        torch.addcmul(squeezed[:, :, None, None], behind, scale[:, :, None, None], out=map_)
        return (
            map_,
            behind.to(ctx.shortcut_dtype),
            (reduced.T @ mean).to(reduce.dtype).view_as(reduce),
            reduced.sum(0).to(reduce_dtype) if reduce_dtype else None,
            (excited.T @ hidden).to(expand.dtype).view_as(expand),
            excited.sum(0).to(expand_dtype) if expand_dtype else None,
        )


def _layer(
    weight: torch.Tensor, bias: Optional[torch.Tensor], dtype: torch.dtype
) -> Tuple[torch.Tensor, Optional[torch.Tensor]]:
    return weight.flatten(1).to(dtype), None if bias is None else bias.to(dtype)
