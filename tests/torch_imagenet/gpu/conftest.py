"""What only a GPU can show is marked `gpu` and skipped without one; its code runs on the CPU too, so that it works."""

from __future__ import annotations

import contextlib
from typing import Iterator

import pytest
import torch
import torch.distributed as dist

from torch_imagenet.devices.device import open_device

GPU = "cuda:0"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """tests/run.sh looks for the reason in the report, and its summary says so."""
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("no GPU that torch can use")


@pytest.fixture(params=["cpu", pytest.param(GPU, marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> str:
    """The spelling of a device."""
    return request.param


@pytest.fixture
def one_rank(device: str) -> Iterator[None]:
    """The process is the only rank of a group: over NCCL on a GPU, gloo on a CPU."""
    dist.init_process_group(open_device(device).backend, store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@contextlib.contextmanager
def waiting_is_an_error(device: str) -> Iterator[None]:
    """Inside, what makes the host wait for a GPU raises. The simulated NPU counts it: devices/npu/test_options.py."""
    if device == GPU:
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        if device == GPU:
            torch.cuda.set_sync_debug_mode("default")
