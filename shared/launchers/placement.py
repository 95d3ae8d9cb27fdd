"""The device that a documented launcher asks main.py for, and the environment variables that go with it.

The originals run on an Ascend NPU alone, and that is the default. Another device must be named: a result file says
nothing of the device, so a launcher that went to a CPU by itself would be taken for the documented run.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from dataclasses import dataclass
from typing import Dict, Mapping, Optional, Sequence

from shared.errors import UsageError

ADAPTERS = {"torch_imagenet": ("torch_npu",), "tf_seresnet": ("npu_bridge", "npu_device")}
# What the ImageNet originals' env_npu.sh exports. HCCL_IF_IP is not here: SENet154's is the first address of the host,
# which may be that of a container's bridge; several machines have --local_addr for it. What the CIFAR-10 scripts export
# (JOB_ID, RANK_ID, RANK_SIZE), that half sets itself.
_EXPORTED: Dict[str, Dict[str, str]] = {
    "torch_imagenet": {
        "ASCEND_SLOG_PRINT_TO_STDOUT": "0",
        "ASCEND_GLOBAL_LOG_LEVEL": "3",
        "ASCEND_GLOBAL_EVENT_ENABLE": "0",
        "TASK_QUEUE_ENABLE": "1",
        "PTCOPY_ENABLE": "1",
        "COMBINED_ENABLE": "1",
        "DYNAMIC_OP": "ADD#MUL",
        "HCCL_WHITELIST_DISABLE": "1",
    },
    "tf_seresnet": {},
}


@dataclass(frozen=True)
class Placement:
    """Where a launcher runs: main.py's --device, the <device-id> of the output's names, and what to export."""

    device: str
    device_id: str
    exported: Mapping[str, str]


def placement(
    half: str,
    asked: Optional[str],
    device_id: Optional[str],
    count: int,
    environment: Mapping[str, str],
    own: Mapping[str, str],
) -> Placement:
    """For --device, --device_id (None where they were not given) and the number of devices on this machine.

    `environment` is the caller's: its ASCEND_DEVICE_ID wins over --device_id, as documented, what it has stays, and
    with etp_running_flag=true it has what all launchers export. `own` is what this launcher exports besides, on an NPU.
    Raises UsageError where the options contradict each other.
    """
    device = "npu" if asked is None else asked
    kind, _, index = device.partition(":")
    number = _checked(index, "--device") if index else _number(device_id, environment, count)
    if not index and number != "0":
        if kind == "auto":
            raise UsageError(f"device {number} of which kind; say it with --device, as in --device=cuda")
        device = kind if kind == "cpu" else f"{kind}:{number}"
    common = {} if environment.get("etp_running_flag") == "true" else _EXPORTED[half]
    exported = {**common, **own} if kind == "npu" else {}
    return Placement(device, number, {name: value for name, value in exported.items() if name not in environment})


def check_adapter(packages: Sequence[str]) -> None:
    """Raise UsageError where none of an NPU's packages, some, is installed."""
    if packages and not any(importlib.util.find_spec(name) for name in packages):
        raise UsageError(
            f"this launcher is for an Ascend NPU, and {sys.executable} has no {' or '.join(packages)}; name a Python"
            " that has it with PYTHON=..., or another device with --device=cuda, --device=cpu or --device=auto"
        )


def _number(device_id: Optional[str], environment: Mapping[str, str], count: int) -> str:
    """The device's number; of several devices the first, 0."""
    if count > 1:
        if device_id not in (None, "0"):
            raise UsageError(f"--device_id names one device and {count} are asked for, 0 to {count - 1}; leave it out")
        return "0"
    number = environment.get("ASCEND_DEVICE_ID", device_id)
    return _checked("0" if number is None else number, "--device_id (or ASCEND_DEVICE_ID)")


def _checked(number: str, option: str) -> str:
    """The number, which becomes the name of a folder: nothing in it may lead out of the output folder."""
    if not re.fullmatch("[0-9]{1,4}", number):
        raise UsageError(f"device number {number!r} is none; give {option} 0, 1, ...")
    return str(int(number))
