"""Registers the backend `hccl`, alone or as in "cpu:gloo,npu:hccl"; gloo does the work, see hccl.h."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import torch.distributed as dist

from torch_npu.extension import EXTENSION


def register() -> None:
    """Register the backend with torch.distributed as the default of the device."""
    if dist.is_available():
        dist.Backend.register_backend("hccl", _create, devices=["npu"])


def _create(store: Any, rank: int, size: int, timeout: timedelta) -> Any:
    return EXTENSION.hccl(dist.ProcessGroupGloo(store, rank, size, timeout))
