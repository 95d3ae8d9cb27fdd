"""Prints as JSON which names and operators of the program the real torch_npu has; needs `stand_in.build`."""

from __future__ import annotations

import inspect
import json
import sys
from pathlib import Path
from typing import Any, Dict, List

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import torch
import torch.distributed as dist
import torch_npu
import torch_npu.optim  # noqa: F401

from shared.errors import UsageError
from tests.fakes.torch_npu_names.names import program_names
from torch_imagenet.devices.device import open_device
from torch_imagenet.devices.npu_options import NpuSettings

SET_ONLY = ("torch.npu.config.allow_internal_format",)  # torch_npu allows setting, not reading


def missing_names() -> List[str]:
    """Names that the program uses and that do not exist."""
    missing = []
    for name in sorted(program_names()):
        value: Any = {"torch": torch, "torch_npu": torch_npu}[name.split(".")[0]]
        parts = name.split(".")[1:-1] if name in SET_ONLY else name.split(".")[1:]
        for part in parts:
            value = getattr(value, part, None)
        if value is None:
            missing.append(name)
    return missing


def without_kernel() -> List[str]:
    """Operators of a training without an NPU kernel, which torch_npu would run on the CPU."""
    path = Path(__file__).with_name("operators.txt")
    return [name for name in path.read_text().split() if not _has_kernel(name)]


def _has_kernel(name: str) -> bool:
    """Whether the operator, or its functional overload, has a kernel for the NPU.

    A composite kernel of torch, as for some operators on lists of tensors, counts too.
    """
    forms, keys = (name, name.partition(".")[0]), ("PrivateUse1", "CompositeExplicitAutograd")
    return any(torch._C._dispatch_has_kernel_for_dispatch_key(form, key) for form in forms for key in keys)


def refusal() -> str:
    """The error message on a machine without a device."""
    try:
        open_device("npu:0")
    except UsageError as error:
        return str(error)
    return ""


def facts() -> Dict[str, Any]:
    """All that the tests check. Raises if a call that the program makes is not valid."""
    NpuSettings(jit_compile=True, internal_format=True).apply(torch.npu)
    inspect.signature(torch_npu.optim.NpuFusedSGD).bind([], lr=0.1, momentum=0.9, nesterov=True)
    torch.amp.GradScaler("npu", enabled=False)
    return {
        "version": torch_npu.__version__,
        "names": sorted(program_names()),
        "missing": missing_names(),
        "without_kernel": without_kernel(),
        "backend": dist.get_default_backend_for_device("npu"),
        "refusal": refusal(),
    }


if __name__ == "__main__":
    print(json.dumps(facts()))
