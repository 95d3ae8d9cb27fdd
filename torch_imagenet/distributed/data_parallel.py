"""Data parallelism: torch's DistributedDataParallel averages the gradients; running statistics are averaged here.

After every step all replicas are equal, so any can be evaluated or saved: gradients are those of the global batch, and
the running statistics of batch normalisation, which each device computes from its own images, are averaged.
"""

from __future__ import annotations

import contextlib
import inspect
from typing import Any, ContextManager, Dict, Iterable, List

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from torch_imagenet.devices.device import Device, copy_all
from torch_imagenet.distributed import sync_batch_norm
from torch_imagenet.distributed.process_group import Ranks


class Replicas:
    """The replica of this process. `module` is for the forward pass: float [B, 3, H, W] -> logits."""

    def __init__(self, network: nn.Module, ranks: Ranks, device: Device, averaged_statistics: bool = True) -> None:
        self._ranks = ranks
        self._supports_foreach = device.supports_foreach
        self.module: nn.Module = network
        self._statistics: List[torch.Tensor] = []
        if ranks.size > 1:
            # torch 2.13 renamed the option. Buffers are averaged in `reduced` instead of broadcast from rank 0.
            renamed = "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters
            own_buffers: Dict[str, Any] = {"forward_sync_buffers" if renamed else "broadcast_buffers": False}
            self.module = DistributedDataParallel(
                network,
                device_ids=[device.torch_device] if device.asynchronous else None,
                gradient_as_bucket_view=not device.npu.fused_sgd,  # that optimizer moves gradients elsewhere
                **own_buffers,
            )
            if averaged_statistics:
                self._statistics = [value for value in network.buffers() if value.is_floating_point()]

    def exchange(self, now: bool) -> ContextManager[object]:
        """The context of a backward pass: `now` averages the accumulated gradients over all devices at its end."""
        if now or not isinstance(self.module, DistributedDataParallel):
            return contextlib.nullcontext()
        return self.module.no_sync()

    @torch.no_grad()
    def reduced(self, values: torch.Tensor) -> torch.Tensor:
        """All-reduce `values` float32 [4]: a mean loss, which is averaged, and three counts, which are summed.

        The same all-reduce averages the running statistics. Nothing waits for the device.
        """
        if self._ranks.size == 1:
            return values
        share = 1 / self._ranks.size
        values = torch.cat([values[:1] * share, values[1:]])
        flat = torch.cat([values, *(statistic.flatten() * share for statistic in self._statistics)])
        dist.all_reduce(flat)
        parts = flat.split([4, *(statistic.numel() for statistic in self._statistics)])
        copy_all(self._statistics, [p.view_as(s) for p, s in zip(parts[1:], self._statistics)], self._supports_foreach)
        return parts[0]


def broadcast(tensors: Iterable[torch.Tensor], ranks: Ranks) -> None:
    """Broadcast the tensors of rank 0; every rank passes as many, of the same shapes."""
    if ranks.size > 1:
        for tensor in tensors:
            dist.broadcast(tensor, 0)


def with_synchronised_statistics(network: nn.Module, device: Device) -> nn.Module:
    """Replace batch normalisation by that over the images of all ranks."""
    kernels = sync_batch_norm.TORCH if device.has_batch_norm_parts else sync_batch_norm.WRITTEN_OUT
    return sync_batch_norm.converted(network, kernels)
