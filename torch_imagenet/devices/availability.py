"""Which accelerators of this machine torch can use, and what is wrong with the others."""

from __future__ import annotations

import glob
import importlib
import platform
import re
from typing import List, Optional

import torch


def usable(kind: str) -> int:
    """The number of devices of this kind that torch can use."""
    if kind == "npu" and _npu_problem():
        return 0
    module = getattr(torch, kind)
    present = int(module.device_count()) if module.is_available() else 0
    return 0 if kind == "cuda" and all(map(missing_kernels, range(present))) else present


def why_not(kind: str) -> str:
    if kind == "cuda":
        return _cuda_problem()
    return _npu_problem() or "torch_npu sees none: look at npu-smi info and at CANN's set_env.sh"


def _cuda_problem() -> str:
    """Why torch cannot use an NVIDIA GPU: it has no CUDA, what it says about the driver, or it has no kernels."""
    build = f"torch {torch.__version__} {'with' if torch.version.cuda else 'without'} CUDA"
    try:
        torch.cuda.init()
    except Exception as error:  # also AssertionError, from a torch without CUDA
        reason = str(error).strip().split(". ")[0]
        return f"{build}: {reason}" if torch.version.cuda and reason else build
    return missing_kernels(0) or build


def missing_kernels(index: int) -> Optional[str]:
    """What torch's build lacks for the NVIDIA GPU of this index; None where it has code that runs there.

    Machine code (sm) runs on its own major version from its minor version on, PTX (compute) from its version on; see
    "Application Compatibility" in NVIDIA's CUDA C++ Best Practices Guide.
    """
    major, minor = torch.cuda.get_device_capability(index)
    built = re.findall(r"(sm|compute)_(\d+)(\d)", " ".join(torch.cuda.get_arch_list()))  # empty for AMD's GPUs
    for kind, of_major, of_minor in built:
        own = int(of_major) == major and int(of_minor) <= minor
        if own or (kind == "compute" and (int(of_major), int(of_minor)) <= (major, minor)):
            return None
    if not built:
        return None
    has = ", ".join(f"{kind}_{of_major}{of_minor}" for kind, of_major, of_minor in built)
    name = torch.cuda.get_device_name(index)
    return f"torch {torch.__version__} has no kernels for {name}, sm_{major}{minor}, only {has}: install one that has"


def _npu_problem() -> Optional[str]:
    """Import torch_npu, which adds `torch.npu` and the device type; why it does not load, None where it does."""
    if hasattr(torch, "npu"):
        return None
    try:
        importlib.import_module("torch_npu")
    except Exception as error:  # without CANN it raises more than ImportError
        reason = " ".join(str(error).split())[:150]
        return (
            f"torch_npu does not load ({reason}); install the torch_npu that fits torch {torch.__version__} on Python"
            f" {platform.python_version()}, and source CANN's set_env.sh"
        )
    return None


def unusable_devices() -> List[str]:
    """Lines about accelerators that torch cannot use. Their device files show that they exist."""
    here = [("cuda", "NVIDIA GPU", "/dev/nvidia[0-9]*"), ("npu", "Ascend NPU", "/dev/davinci[0-9]*")]
    return [
        f"an {name} is here, but torch cannot use it ({why_not(kind)}); this runs on the CPU"
        for kind, name, files in here
        if glob.glob(files)
    ]
