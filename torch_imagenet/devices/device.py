"""One interface to CPU, NVIDIA GPU and Ascend NPU; no file outside this package names a device.

    device = open_device("auto")
    network.to(device.torch_device)

Devices differ only in how they are found and named and in their defaults.
"""

from __future__ import annotations

import functools
import importlib
import os
import re
from dataclasses import dataclass, field
from typing import Any, ContextManager, Dict, List, Optional, Sequence, Tuple

import torch
import torch.distributed as dist
from torch import nn

from shared.errors import UsageError, one_line
from shared.system import processor
from shared.text import nearest
from torch_imagenet.devices import availability, fused_sgd, host_kernels, host_memory
from torch_imagenet.devices.npu_options import NO_NPU_SETTINGS, NpuSettings
from torch_imagenet.devices.precision import Precision, multiply_in_tf32

MEMORY_FORMATS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}
# channels_last slows grouped convolutions down on CUDA (timm's tables: SENet154 trains at 111 instead of 170 images/s).
# On a CPU it makes all three networks faster (1.10 to 1.30 times).
_CONTIGUOUS = {("cuda", "senet154")}


@dataclass
class Device:
    """A device that is open, or the common properties of several."""

    kind: str
    torch_device: torch.device
    name: str
    count: int = 1  # of the run
    npu: NpuSettings = NO_NPU_SETTINGS
    notes: List[str] = field(default_factory=list)  # for the user

    @property
    def asynchronous(self) -> bool:
        """Whether the device queues its work, so that a time is only valid after `synchronize`."""
        return self.kind != "cpu"

    @property
    def of_the_ports(self) -> bool:
        """Whether the original ports were made for this kind of device."""
        return self.kind == "npu"

    @property
    def module(self) -> Any:
        """`torch.cpu`, `torch.cuda` or `torch.npu`."""
        return torch.get_device_module(self.torch_device)

    def autocast(self, precision: Precision) -> ContextManager[Any]:
        return torch.autocast(self.torch_device.type, dtype=precision.autocast, enabled=precision.autocast is not None)

    def memory_format(self, network: str, requested: Optional[str]) -> str:
        """The requested memory format; by default the faster of "channels_last" and "contiguous" for this network.

        Raises UsageError for channels_last on an NPU: torch_npu has contiguous tensors only.
        """
        if self.kind == "npu":
            if requested == "channels_last":
                raise UsageError("torch_npu has no channels_last tensors; leave --memory-format out")
            return "contiguous"
        return requested or ("contiguous" if (self.kind, network) in _CONTIGUOUS else "channels_last")

    @property
    def probes_layout(self) -> bool:
        """Whether a training measures which memory format is faster: on CUDA, where it depends on GPU and cuDNN."""
        return self.kind == "cuda"

    def place(self, network: nn.Module, memory_format: str) -> nn.Module:
        """Move the network to this device and its convolution weights to this memory format."""
        network.to(self.torch_device)
        return network.to(memory_format=MEMORY_FORMATS[memory_format])  # type: ignore[call-overload]

    def training_precision(self, documented: str) -> str:
        """The default precision of a recipe here: O0 on a CPU, where the 16-bit levels are slower than float32."""
        return documented if self.asynchronous else "O0"

    @property
    def bf16_speedup(self) -> Optional[float]:
        """How many times as fast `--precision bf16` trains here as float32; None where it is slower or not measured.

        Measured on a CPU that multiplies bfloat16 (avx512_bf16, AMD EPYC, two cores), SE-ResNet-50.
        """
        known = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
        return 1.5 if self.kind == "cpu" and known is not None and known() else None

    @property
    def float32_products(self) -> Dict[str, str]:
        """What the factors of a float32 "convolution" or "linear" layer are rounded to here, where they are.

        "tf32" is NVIDIA's, from Ampere on, and "hf32" Ascend's; by default both are used in convolutions alone.
        """
        if self.kind == "cuda":
            has = torch.cuda.get_device_capability(self.torch_device) >= (8, 0)
            has = has and os.environ.get("NVIDIA_TF32_OVERRIDE") != "0"
            allowed = {"convolution": torch.backends.cudnn.allow_tf32, "linear": torch.backends.cuda.matmul.allow_tf32}
            return {layer: "tf32" for layer, on in allowed.items() if has and on}
        if self.kind == "npu":
            allowed = {"convolution": self.module.conv.allow_hf32, "linear": self.module.matmul.allow_hf32}
            return {layer: "hf32" for layer, on in allowed.items() if on}
        return {}

    @property
    def supports_foreach(self) -> bool:
        """Whether torch._foreach operators work: torch_npu has none for tensors in its internal formats."""
        return not self.npu.internal_format

    def has_fused_sgd(self, momentum: float) -> bool:
        """Whether torch.optim.SGD(fused=True) has a kernel here.

        torch assumes so for every PrivateUse1 device. torch_npu has one from 2.13 on, for a momentum above 0; before
        that, the operator silently runs on the host, on copies of all weights. A kernel that fails when it is tried, or
        is wrong, is not used, and a note says so.
        """
        if self.kind != "npu":
            return True
        kernel = torch._C._dispatch_has_kernel_for_dispatch_key("aten::_fused_sgd_", "PrivateUse1")
        if not (self.supports_foreach and momentum > 0 and kernel):
            return False
        fault = fused_sgd.fault(self.torch_device)
        if fault is not None:
            self.notes.append(f"the fused SGD kernel {fault}; the unfused form is used")
        return fault is None

    @property
    def saturates(self) -> bool:
        """Whether float16 results that overflow become the largest number instead of infinity, as on the Ascend 910.

        The overflow then is a flag of this device alone, from which torch_npu's scaler takes its verdict.
        """
        return self.kind == "npu" and not self.module.utils.is_support_inf_nan()

    def clear_overflow(self) -> None:
        """Clear the flag of a device that `saturates`."""
        self.module.utils.clear_npu_overflow_flag()

    @property
    def has_batch_norm_parts(self) -> bool:
        """Whether torch has operators for the parts of synchronised batch normalisation (torch.batch_norm_stats)."""
        return self.kind == "cuda"

    @functools.cached_property
    def norm_kernels(self) -> Optional[host_kernels.HostKernels]:
        """Own kernels for batch normalisation in training, on a CPU; None where there are none, and a note says why."""
        if self.kind != "cpu":
            return None
        try:
            return host_kernels.make_kernels()
        except host_kernels.Unavailable as error:
            self.notes.append(
                f"torch's batch normalisation is used, the faster one cannot be had: {one_line(str(error))}"
            )
            return None

    @property
    def own_sgd(self) -> Any:
        """The optimizer class of --npu-fused-sgd; None without that option."""
        return importlib.import_module("torch_npu.optim").NpuFusedSGD if self.npu.fused_sgd else None

    @property
    def warm_up_steps(self) -> int:
        """Steps excluded from timings, because the first ones compile operators. The originals skip up to 10."""
        return 10 if self.kind == "npu" else 5

    def synchronize(self) -> None:
        self.module.synchronize()

    def seed(self, value: int) -> None:
        """Seed the generators of the CPU and of the device, without waiting for the device."""
        torch.default_generator.manual_seed(value)
        if self.asynchronous:
            self.module.manual_seed(value)

    def peak_memory(self) -> Optional[int]:
        """Peak memory of tensors on the device, in bytes; None for a CPU, which does not count it."""
        return int(self.module.max_memory_allocated(self.torch_device)) if self.asynchronous else None

    def profiler_activity(self) -> Any:
        """The torch.profiler activity of the kernels of this device; None for a CPU."""
        activities = torch.profiler.ProfilerActivity
        return {"cuda": activities.CUDA, "npu": activities.PrivateUse1}.get(self.kind)

    @property
    def backend(self) -> str:
        """The backends of torch.distributed: the default one of the device, and gloo for tensors on the host."""
        own = dist.get_default_backend_for_device(self.torch_device)
        return own if self.torch_device.type == "cpu" else f"cpu:gloo,{self.torch_device.type}:{own}"

    def describe(self) -> Dict[str, Any]:
        """The `device` part of a record."""
        return {"kind": self.kind, "name": self.name, "count": self.count}


def copy_all(targets: Sequence[torch.Tensor], sources: Sequence[torch.Tensor], supports_foreach: bool) -> None:
    """Copy each source into the target of the same position and shape, in one kernel where the device supports it."""
    if supports_foreach and targets:  # torch._foreach_copy_ refuses empty lists
        torch._foreach_copy_(list(targets), list(sources))
        return
    for target, source in zip(targets, sources):
        target.copy_(source)


def parse(text: str) -> Tuple[str, Optional[int]]:
    """Kind ("auto", "cpu", "cuda" or "npu") and index (None without one) of a `--device` value.

    "gpu" means "cuda". Raises UsageError with the nearest valid spelling.
    """
    match = re.fullmatch(r"(auto|cpu)|(gpu|cuda|npu)(?::(\d{1,4}))?", text.strip().lower())
    if match is None:
        hint = nearest(text.lower(), ("auto", "cpu", "cuda", "cuda:0", "gpu", "gpu:0", "npu", "npu:0"))
        raise UsageError(f"unknown device {text!r}; {hint}")
    kind = (match.group(1) or match.group(2)).replace("gpu", "cuda")
    return kind, int(match.group(3)) if match.group(3) else None


def open_device(
    text: str,
    deterministic: bool = False,
    local_rank: Optional[int] = None,
    count: int = 1,
    npu: NpuSettings = NO_NPU_SETTINGS,
    tf32: Optional[bool] = None,
) -> Device:
    """Open the device that `text` names; "auto" is the first available of CUDA, NPU and CPU.

    `deterministic` makes torch refuse operators whose results may vary. With `local_rank`, the device of that index on
    this machine is opened; `count` is the number of devices of the run; `tf32` is that of `multiply_in_tf32`. Raises
    UsageError where there is no such device, and where `npu` or `tf32` are options for another kind.
    """
    kind, index = _resolve(text, npu, several=local_rank is not None)
    multiply_in_tf32(kind, tf32)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it at its first use
        torch.use_deterministic_algorithms(True)
    if kind == "cpu":
        host_memory.keep_freed_memory()
        notes = availability.unusable_devices() if parse(text)[0] == "auto" else []
        return Device("cpu", torch.device("cpu"), processor.name(), count, npu, notes)
    if kind == "cuda":
        torch.backends.cudnn.benchmark = not deterministic
    index = (index or 0) if local_rank is None else local_rank
    present, module = _present(kind), getattr(torch, kind)
    if index >= present:
        choices = f"{kind}:0" if present == 1 else f"{kind}:0 to {kind}:{present - 1}"
        raise UsageError(f"there is no {kind}:{index} here; choose {choices}")
    missing = availability.missing_kernels(index) if kind == "cuda" else None
    if missing:
        raise UsageError(f"cuda:{index} cannot be used: {missing}, or use --device cpu")
    if kind == "npu":
        npu.apply(module)
    torch_device = torch.device(kind, index)
    module.set_device(torch_device)
    return Device(kind, torch_device, str(module.get_device_name(index)), count, npu)


def several(text: str, number: Optional[int], count_all: int = 1, npu: NpuSettings = NO_NPU_SETTINGS) -> Device:
    """The common properties of `number` devices of this machine (None: all of them), without opening one.

    `count` of the result is `number` times `count_all`, the number of machines. Raises UsageError where there are
    fewer, and where `npu` has options for another kind of device.
    """
    kind, _ = _resolve(text, npu, several=number != 1)
    if kind == "cpu":
        if number is None:
            raise UsageError("--distributed on the CPU needs a number of processes; add --num-devices N")
        return open_device("cpu", count=number * count_all)
    present = _present(kind)
    if number is not None and number > present:
        raise UsageError(f"--num-devices {number}, but this machine has {present} {kind}; lower it")
    return Device(kind, torch.device(kind, 0), kind, (number or present) * count_all)


def network_environment(address: str, interface: Optional[str]) -> Dict[str, str]:
    """The environment variables that make gloo, NCCL and HCCL use this IP address and network interface."""
    named = {"GLOO_SOCKET_IFNAME": interface, "NCCL_SOCKET_IFNAME": interface} if interface else {}
    return {**named, "HCCL_IF_IP": address}


def _resolve(text: str, npu: NpuSettings, several: bool) -> Tuple[str, Optional[int]]:
    """`parse` with "auto" resolved. Raises UsageError where options or an index do not fit the kind or the number."""
    kind, index = parse(text)
    if kind == "auto":
        kind = next((kind for kind in ("cuda", "npu") if availability.usable(kind)), "cpu")
    npu.refuse_elsewhere(kind)
    if several and index is not None:
        raise UsageError(f"--device {kind}:{index} is one device, and several are requested; write --device {kind}")
    return kind, index


def _present(kind: str) -> int:
    """The number of devices of this kind. Raises UsageError where there is none."""
    present = availability.usable(kind)
    if not present:
        raise UsageError(
            f"there is no {kind} device here that can be used ({availability.why_not(kind)}); use --device cpu, or auto"
        )
    return present
