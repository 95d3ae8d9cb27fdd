"""Options that only an Ascend NPU has, all off by default; docs/npu.md explains them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from shared.cli.modes import Add
from shared.errors import UsageError


def add_options(add: Add) -> None:
    """Add the options by the function `add` of a group."""
    add("--npu-fused-sgd", action="store_true", help="torch_npu's own SGD, which keeps all weights in one block")
    add("--npu-jit-compile", action="store_true", help="compile operators as they come; else the kernels of CANN")
    add("--npu-internal-format", action="store_true", help="let tensors be stored in Ascend's own layouts")


@dataclass(frozen=True)
class NpuSettings:
    """The values of the options."""

    fused_sgd: bool = False
    jit_compile: bool = False
    internal_format: bool = False

    def apply(self, module: Any) -> None:
        """Configure `module`, torch.npu; must run before the first device is opened."""
        module.set_compile_mode(jit_compile=self.jit_compile)
        module.config.allow_internal_format = self.internal_format

    def refuse_elsewhere(self, kind: str) -> None:
        """Raise UsageError where an option is set and the device, of this `kind`, is no NPU."""
        options = [f"--npu-{name.replace('_', '-')}" for name, on in asdict(self).items() if on]
        if options and kind != "npu":
            raise UsageError(f"{options[0]} is for an NPU, and this is {kind}; leave it out, or choose --device npu")


NO_NPU_SETTINGS = NpuSettings()
