"""What the command line says about devices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional, Tuple

# The distributions that contain TensorFlow, for --version, which does not import it.
TENSORFLOW_PACKAGES = ("tensorflow", "tensorflow-gpu", "tensorflow-cpu", "tensorflow-aarch64")


@dataclass(frozen=True)
class DeviceConfig:
    """The device of a run, by the parser's names. None: not given."""

    device: str
    precision: Optional[str]
    loss_scale: Optional[str]  # "dynamic" or a number
    deterministic: bool
    xla: bool
    npu_option: Tuple[str, ...]  # "key=value" for the Ascend adapter
    distributed: bool
    num_devices: Optional[int]

    @property
    def requested_devices(self) -> Optional[int]:
        """How many devices of this machine are to train together; None: all of them."""
        return self.num_devices or (None if self.distributed else 1)


def add_options(group: Any) -> None:
    """The options that belong to a device of this half."""
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
