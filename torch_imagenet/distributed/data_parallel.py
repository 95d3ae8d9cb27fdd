"""The copies of a network on several devices: gradients averaged by torch's DistributedDataParallel, the rest here.

After every step all copies are equal: the gradients are those of the whole batch, and the running statistics of batch
normalisation, which each device gathers from its own images, are averaged. So any copy can be evaluated or saved, and a
checkpoint needs no more than one of them.
"""

from __future__ import annotations

import contextlib
import inspect
from typing import Any, ContextManager, Dict, Iterable, List

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from shared.errors import UsageError
from torch_imagenet.devices.device import Device
from torch_imagenet.devices.foreach import copy_all
from torch_imagenet.distributed.process_group import Ranks


class Replicas:
    """This process's copy. `module` is what a training step's forward pass calls, float [B, 3, H, W] -> logits."""

    def __init__(self, network: nn.Module, ranks: Ranks, device: Device, averaged_statistics: bool = True) -> None:
        self._ranks = ranks
        self._one_pass = device.supports_foreach
        self.module: nn.Module = network
        self._parallel = None
        self._statistics: List[torch.Tensor] = []
        if ranks.size > 1:
            # torch 2.13 has given the option another name. Buffers are averaged here, not the first one's taken.
            known = inspect.signature(DistributedDataParallel).parameters
            own_buffers: Dict[str, Any] = {
                "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers": False
            }
            self._parallel = DistributedDataParallel(
                network,
                device_ids=[device.torch_device] if device.asynchronous else None,
                gradient_as_bucket_view=not device.npu.fused_sgd,
                **own_buffers,  # it moves gradients elsewhere
            )
            self.module = self._parallel
            if averaged_statistics:
                self._statistics = [value for value in network.buffers() if value.is_floating_point()]

    def exchange(self, now: bool) -> ContextManager[object]:
        """Around a backward pass: whether its gradients, with those gathered before, are averaged over all devices."""
        return contextlib.nullcontext() if now or self._parallel is None else self._parallel.no_sync()

    @torch.no_grad()
    def reduced(self, values: torch.Tensor) -> torch.Tensor:
        """`values` float32 [4] of the whole step: a mean loss, averaged, and three counts, summed.

        The running statistics travel in the same exchange. Nothing waits for the device.
        """
        if self._parallel is None:
            return values
        share = 1 / self._ranks.size
        values = torch.cat([values[:1] * share, values[1:]])
        flat = torch.cat([values, *(statistic.flatten() * share for statistic in self._statistics)])
        dist.all_reduce(flat)
        parts = flat.split([4, *(statistic.numel() for statistic in self._statistics)])
        copy_all(self._statistics, [p.view_as(s) for p, s in zip(parts[1:], self._statistics)], self._one_pass)
        return parts[0]


def broadcast(tensors: Iterable[torch.Tensor], ranks: Ranks) -> None:
    """Every process's tensors become the first one's; all have the same number of them, of the same shapes."""
    if ranks.size > 1:
        for tensor in tensors:
            dist.broadcast(tensor, 0)


def with_synchronised_statistics(network: nn.Module, device: Device) -> nn.Module:
    """Batch normalisation over the images of all devices, in torch's SyncBatchNorm, in place of each device's own."""
    check_synchronised_statistics(device)
    return nn.SyncBatchNorm.convert_sync_batchnorm(network)


def check_synchronised_statistics(device: Device) -> None:
    """Raise UsageError where the device has none."""
    if not device.asynchronous:
        raise UsageError("--sync-bn needs a GPU or NPU: torch has none for the CPU; leave it out")
