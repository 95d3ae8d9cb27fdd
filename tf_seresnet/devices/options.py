"""The command line's options for devices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional, Tuple

from shared.cli.arguments import CommonConfig

# Distributions that contain TensorFlow, for --version, which does not import it.
TENSORFLOW_PACKAGES = ("tensorflow", "tensorflow-gpu", "tensorflow-cpu", "tensorflow-aarch64")


@dataclass(frozen=True)
class DeviceConfig(CommonConfig):
    """The common options and those of this half's devices, by the parser's names. None: not given."""

    loss_scale: Optional[str]  # "dynamic" or a number
    xla: bool
    npu_option: Tuple[str, ...]  # "key=value" for the Ascend adapter

    @property
    def requested_devices(self) -> Optional[int]:
        """Number of devices of this machine that train together; None: all."""
        return self.num_devices or (None if self.distributed else 1)


def add_options(group: Any) -> None:
    """Add the device options of this half to a parser or group."""
    add = group.add_argument
    add("--xla", action="store_true", help="compile with XLA (CPU, GPU)")
    add("--loss-scale", "--loss_scale", metavar="SCALE", help="dynamic or a number (default: by precision)")
    add(
        "--npu-option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any option of the Ascend adapter's session configuration; may be repeated",
    )
