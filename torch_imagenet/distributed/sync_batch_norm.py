"""Batch normalisation over the images of all ranks, on any device, which waits for none.

torch.nn.SyncBatchNorm removes ranks without images by a boolean mask. The host waits for the shape of the result, in
every layer of every step (pytorch/pytorch#78549), and there is no form for the CPU. Here every rank has images: a step
without is refused before. The mathematics and, where a device has them, the kernels are those of torch's.
"""

from __future__ import annotations

from typing import Any, Callable, NamedTuple, Optional, Tuple

import torch
import torch.distributed as dist
from torch import nn
from torch.autograd.function import once_differentiable

Tensor = torch.Tensor


class Kernels(NamedTuple):
    """The five parts of it, with the arguments of torch's operators of these names; `WRITTEN_OUT` says what they do."""

    stats: Callable[..., Tuple[Tensor, Tensor]]
    gather_stats_with_counts: Callable[..., Tuple[Tensor, Tensor]]
    elemt: Callable[..., Tensor]
    backward_reduce: Callable[..., Tuple[Tensor, Tensor, Tensor, Tensor]]
    backward_elemt: Callable[..., Tensor]


class SyncBatchNorm(nn.BatchNorm2d):
    """nn.BatchNorm2d whose training statistics are those of the images of all ranks, whose numbers may differ.

    Under a loss that is each rank's mean, gradients of weight and bias are the rank's own, for DistributedDataParallel
    to average.
    """

    kernels: Kernels

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] of any float dtype and either layout, normalised. A collective in training."""
        if not self.training:
            return super().forward(x)
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        running = (self.running_mean, self.running_var)
        return _Normalise.apply(x, self.weight, self.bias, *running, self.eps, self.momentum, self.kernels)


def converted(network: nn.Module, kernels: Kernels) -> nn.Module:
    """The network, whose nn.BatchNorm2d become SyncBatchNorm in place; parameters, buffers and names stay."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.__class__ = SyncBatchNorm
            module.kernels = kernels  # type: ignore[assignment]
    return network


class _Normalise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        running_mean: Tensor,
        running_var: Tensor,
        eps: float,
        momentum: float,
        kernels: Kernels,
    ) -> Tensor:
        x = _dense(x)
        mean, invstd = kernels.stats(x, eps)
        count = torch.full((1,), x.numel() // x.shape[1], dtype=mean.dtype, device=mean.device)
        own = torch.cat([mean, invstd, count])
        gathered = own.new_empty(dist.get_world_size() * len(own))
        # torch 2.13 renamed it, and warns of the old name.
        gather = dist.all_gather_single if hasattr(dist, "all_gather_single") else dist.all_gather_into_tensor
        gather(gathered, own)
        means, invstds, counts = gathered.view(-1, len(own)).split([len(mean), len(mean), 1], dim=1)
        counts = counts.flatten()
        mean, invstd = kernels.gather_stats_with_counts(
            x, means, invstds, running_mean, running_var, momentum, eps, counts
        )
        ctx.kernels = kernels
        ctx.save_for_backward(x, weight, mean, invstd, counts.to(torch.int32))
        return kernels.elemt(x, weight, bias, mean, invstd, eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tuple[Optional[Tensor], ...]:
        x, weight, mean, invstd, counts = ctx.saved_tensors
        gradient, wanted = _dense(gradient), ctx.needs_input_grad
        sum_dy, sum_dy_xmu, of_weight, of_bias = ctx.kernels.backward_reduce(
            gradient, x, mean, invstd, weight, *wanted[:3]
        )
        of_x = None
        if wanted[0]:
            sums = torch.cat([sum_dy, sum_dy_xmu])
            dist.all_reduce(sums)
            sum_dy, sum_dy_xmu = sums.chunk(2)
            of_x = ctx.kernels.backward_elemt(
                gradient, x, mean, invstd, weight.to(mean.dtype), sum_dy, sum_dy_xmu, counts
            )
        return (of_x, of_weight if wanted[1] else None, of_bias if wanted[2] else None, *[None] * 5)


def _dense(x: Tensor) -> Tensor:
    return x if x.is_contiguous(memory_format=torch.channels_last) else x.contiguous()


# -- the kernels, written out ----------------------------------------------------------------------------------

_OVER = (0, 2, 3)  # of [B, C, H, W]: statistics are per channel


def _wide(x: Tensor) -> Tensor:
    """The tensor in float32, in which 16-bit numbers are summed."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _map(channels: Tensor) -> Tensor:
    """[C] -> [C, 1, 1], for a feature map."""
    return channels[:, None, None]


def _stats(x: Tensor, eps: float) -> Tuple[Tensor, Tensor]:
    """Mean and 1 / sqrt(variance + eps) of each channel, float32 [C]."""
    variance, mean = torch.var_mean(_wide(x), _OVER, correction=0)
    return mean, (variance + eps).rsqrt()


def _gather_stats_with_counts(
    x: Tensor,
    means: Tensor,
    invstds: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    momentum: float,
    eps: float,
    counts: Tensor,
) -> Tuple[Tensor, Tensor]:
    """Of `_stats` of all ranks, [W, C], over `counts` [W] values: that of all values. Updates the running ones."""
    total = counts.sum()
    share = (counts / total)[:, None]
    mean = (share * means).sum(0)
    variance = (share * (invstds.pow(-2) - eps + (means - mean).square())).sum(0)
    running_mean.lerp_(mean.to(running_mean.dtype), momentum)
    running_var.lerp_((variance * (total / (total - 1))).to(running_var.dtype), momentum)
    return mean, (variance + eps).rsqrt()


def _elemt(x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, invstd: Tensor, eps: float) -> Tensor:
    """The normalised feature map, in the dtype of x."""
    scale = invstd * weight
    return torch.addcmul(_map(bias - mean * scale), _wide(x), _map(scale)).to(x.dtype)


def _backward_reduce(
    gradient: Tensor, x: Tensor, mean: Tensor, invstd: Tensor, weight: Tensor, *wanted: bool
) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
    """Sums over this rank's values of the gradient g and of g (x - mean), float32 [C]; gradients of weight and bias."""
    wide = _wide(gradient)
    sum_dy, sum_dy_xmu = wide.sum(_OVER), (wide * (_wide(x) - _map(mean))).sum(_OVER)
    return sum_dy, sum_dy_xmu, (sum_dy_xmu * invstd).to(weight.dtype), sum_dy.to(weight.dtype)


def _backward_elemt(
    gradient: Tensor,
    x: Tensor,
    mean: Tensor,
    invstd: Tensor,
    weight: Tensor,
    sum_dy: Tensor,
    sum_dy_xmu: Tensor,
    counts: Tensor,
) -> Tensor:
    """weight invstd (g - mean(g) - (x - mean) invstd^2 mean(g (x - mean))), the sums and counts being of all ranks."""
    share = counts.sum().to(mean.dtype).reciprocal()
    of_mean = torch.addcmul(_map(sum_dy * share), _wide(x) - _map(mean), _map(invstd.square() * sum_dy_xmu * share))
    return ((_wide(gradient) - of_mean) * _map(weight * invstd)).to(x.dtype)


TORCH = Kernels(
    torch.batch_norm_stats,
    torch.batch_norm_gather_stats_with_counts,
    torch.batch_norm_elemt,
    torch.batch_norm_backward_reduce,
    torch.batch_norm_backward_elemt,
)
WRITTEN_OUT = Kernels(_stats, _gather_stats_with_counts, _elemt, _backward_reduce, _backward_elemt)
