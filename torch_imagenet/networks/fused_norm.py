"""Batch normalisation in training and what follows it as one function each, with kernels that a device brings.

A layer has `kernels` where a training has given it some; without them torch's layers are called. What is computed is
the same up to rounding: relu(norm(x)), and the end of an SE block, relu(shortcut + gate(norm(x)) * norm(x)).
"""

from __future__ import annotations

from typing import Any, Callable, Optional, Tuple

import torch
from torch import nn
from torch.nn import functional

from torch_imagenet.networks.fused_gate import Excitation, unseen


def give_kernels(network: nn.Module, kernels: Any) -> nn.Module:
    """Compute the batch normalisations of the network with these; returns the network."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.kernels = kernels
    return network


def norm_relu(
    x: torch.Tensor, norm: nn.Module, relu: Optional[Callable[[torch.Tensor], torch.Tensor]] = None
) -> torch.Tensor:
    """relu(norm(x)), or norm(x), for x [B, C, H, W]; relu is a layer or a function."""
    kernels = kernels_for(x, norm, *([relu] if isinstance(relu, nn.Module) else []))
    if kernels is None:
        normalised: torch.Tensor = norm(x)
        return normalised if relu is None else relu(normalised)
    result: torch.Tensor = _Normalised.apply(x, norm.weight, norm.bias, norm, kernels, relu is not None)
    return result


def kernels_for(x: torch.Tensor, norm: nn.Module, *others: nn.Module) -> Any:
    """The kernels that compute this layer and these behind it; None where there are none, or a hook is to see them."""
    kernels = getattr(norm, "kernels", None)
    use = kernels is not None and torch.is_grad_enabled() and kernels.takes(norm, x) and unseen(norm, *others)
    return kernels if use else None


def gated_residual_of_norm(
    x: torch.Tensor, norm: nn.Module, shortcut: torch.Tensor, layers: Excitation, kernels: Any
) -> torch.Tensor:
    """`fused_gate.gated_residual` of norm(x), which is never written; the gate is computed in float32."""
    result: torch.Tensor = _GatedResidual.apply(x, norm.weight, norm.bias, shortcut, norm, kernels, *layers)
    return result


class _Normalised(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, norm: Any, kernels: Any, relu: bool
    ) -> torch.Tensor:
        ctx.kernels, ctx.mode = kernels, kernels.RELU if relu else kernels.PLAIN
        values, away = kernels.statistics(x, norm)
        ctx.save_for_backward(x, values, away)
        return kernels.apply(x, values[2], values[3], ctx.mode)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: torch.Tensor) -> Tuple[Optional[torch.Tensor], ...]:
        x, values, away = ctx.saved_tensors
        dy = dy.to(x.dtype).contiguous(memory_format=torch.channels_last)
        sums, _ = ctx.kernels.gradient_sums(dy, x, values, ctx.mode)
        return (*ctx.kernels.gradient(dy, x, values, away, ctx.mode, sums), None, None, None)


class _GatedResidual(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        shortcut: torch.Tensor,
        norm: Any,
        kernels: Any,
        reduce: torch.Tensor,
        reduce_bias: Optional[torch.Tensor],
        expand: torch.Tensor,
        expand_bias: Optional[torch.Tensor],
    ) -> torch.Tensor:
        values, away = kernels.statistics(x, norm)
        _, _, a, b = values
        mean = torch.addcmul(bias, a, away, value=1 / x[0, 0].numel())  # of a x + b, [B, C]
        with torch.autocast(x.device.type, enabled=False):
            hidden = functional.relu(functional.linear(mean, _matrix(reduce), _float(reduce_bias)))
            scale = torch.sigmoid(functional.linear(hidden, _matrix(expand), _float(expand_bias)))
        beside = shortcut.to(x.dtype).contiguous(memory_format=torch.channels_last)
        output = kernels.apply(x, scale * a, scale * b, kernels.SHORTCUT, beside)
        ctx.save_for_backward(x, values, away, bias, mean, hidden, scale, output, reduce, expand)
        ctx.kernels, ctx.shortcut_dtype = kernels, shortcut.dtype
        ctx.bias_dtypes = [None if one is None else one.dtype for one in (reduce_bias, expand_bias)]
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: torch.Tensor) -> Tuple[Optional[torch.Tensor], ...]:
        x, values, away, bias, mean, hidden, scale, output, reduce, expand = ctx.saved_tensors
        kernels, (reduce_dtype, expand_dtype) = ctx.kernels, ctx.bias_dtypes
        dy = dy.to(x.dtype).contiguous(memory_format=torch.channels_last)
        sums, behind = kernels.gradient_sums(dy, x, values, kernels.SHORTCUT, output)
        product = torch.addcmul(sums[0] * bias, sums[1], values[2])  # the sums of behind (a x + b)
        excited = product * scale * (1 - scale)  # [B, C], before the sigmoid
        reduced = (excited @ _matrix(expand)) * (hidden > 0)  # [B, C / 16], before the ReLU
        squeezed = (reduced @ _matrix(reduce)) / x[0, 0].numel()
        gradients = kernels.gradient(behind, x, values, away, kernels.SHORTCUT, sums, (scale, squeezed))
        return (
            *gradients,
            behind.to(ctx.shortcut_dtype),
            None,
            None,
            (reduced.T @ mean).to(reduce.dtype).view_as(reduce),
            reduced.sum(0).to(reduce_dtype) if reduce_dtype else None,
            (excited.T @ hidden).to(expand.dtype).view_as(expand),
            excited.sum(0).to(expand_dtype) if expand_dtype else None,
        )


def _matrix(weight: torch.Tensor) -> torch.Tensor:
    return weight.flatten(1).float()


def _float(bias: Optional[torch.Tensor]) -> Optional[torch.Tensor]:
    return None if bias is None else bias.float()
