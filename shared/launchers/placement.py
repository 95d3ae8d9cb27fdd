"""The device of a documented launcher, and the environment variables that go with it.

The originals run only on an Ascend NPU, which is the default. Another device must be named: a result file does not name
the device, so that a silent fallback to a CPU would pass for the documented run.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from typing import Dict, Mapping, Optional, Sequence, Tuple

from shared.errors import UsageError

ADAPTERS = {"torch_imagenet": ("torch_npu",), "tf_seresnet": ("npu_bridge", "npu_device")}
# The exports of the ImageNet originals' env_npu.sh, without HCCL_IF_IP: SENet154 sets it to the host's first address,
# which may be a container's bridge; --local_addr sets it here. The CIFAR-10 half sets JOB_ID, RANK_ID and
# RANK_SIZE itself.
_EXPORTED = {
    "ASCEND_SLOG_PRINT_TO_STDOUT": "0",
    "ASCEND_GLOBAL_LOG_LEVEL": "3",
    "ASCEND_GLOBAL_EVENT_ENABLE": "0",
    "TASK_QUEUE_ENABLE": "1",
    "PTCOPY_ENABLE": "1",
    "COMBINED_ENABLE": "1",
    "DYNAMIC_OP": "ADD#MUL",
    "HCCL_WHITELIST_DISABLE": "1",
}


def placement(
    half: str,
    requested: Optional[str],
    device_id: Optional[str],
    count: int,
    environment: Mapping[str, str],
    own: Mapping[str, str],
) -> Tuple[str, str, Dict[str, str]]:
    """Where a launcher runs: main.py's --device, the <device-id> of the output folder, and variables to export.

    `requested` and `device_id` are --device and --device_id, `count` the number of devices on this machine.
    ASCEND_DEVICE_ID in `environment` overrides --device_id, as documented. Variables set there are not exported again;
    with etp_running_flag=true the common ones are expected there. `own` are this launcher's additional exports on an
    NPU. Raises UsageError if the options contradict each other.
    """
    device = "npu" if requested is None else requested
    kind, _, index = device.partition(":")
    number = index
    if not index and count == 1:
        number = environment.get("ASCEND_DEVICE_ID", "0" if device_id is None else device_id)
    elif not index:  # the first of several
        if device_id not in (None, "0"):
            raise UsageError(f"--device_id names one device, and the launcher uses the first {count}; leave it out")
        number = "0"
    if not re.fullmatch("[0-9]{1,4}", number):  # it names a folder inside the output folder
        option = "--device" if index else "--device_id (or ASCEND_DEVICE_ID)"
        raise UsageError(f"{number!r} is not a device number; give {option} 0, 1, ...")
    number = str(int(number))
    if not index and number != "0":
        if kind == "auto":
            raise UsageError(f"device {number} is of an unknown kind; name it, as in --device=cuda")
        device = kind if kind == "cpu" else f"{kind}:{number}"
    common = _EXPORTED if half == "torch_imagenet" and environment.get("etp_running_flag") != "true" else {}
    exported = {**common, **own} if kind == "npu" else {}
    return device, number, {name: value for name, value in exported.items() if name not in environment}


def check_adapter(packages: Sequence[str]) -> None:
    """Raise UsageError if `packages` is not empty and none of them is installed."""
    if packages and not any(map(importlib.util.find_spec, packages)):
        raise UsageError(
            f"this launcher is for an Ascend NPU, and {sys.executable} has no {' or '.join(packages)}; name a Python"
            " that has it with PYTHON=..., or another device with --device=cuda, --device=cpu or --device=auto"
        )
