"""Which of several processes this one is, as the environment says: the adapter's ranks, one NPU each.

Ascend documents two ways, never both ("Distributed Training with Multiple Devices" of the TF Adapter):

- a rank table: RANK_TABLE_FILE names it, RANK_ID and RANK_SIZE the process;
- CM_CHIEF_IP, CM_CHIEF_PORT, CM_CHIEF_DEVICE, CM_WORKER_SIZE and CM_WORKER_IP, with ASCEND_DEVICE_ID for the process;
  on several machines also CM_RANK, the machine's number, and CM_LOCAL_WORKER, its devices, as the Ascend operator for
  Kubernetes sets them.

The adapter waits for minutes, ends the process or trains alone without a word where these do not fit together.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any, Dict, Mapping, Optional

from shared.errors import UsageError
from shared.text import decoded

JOB_ID = "10087"  # any will do, but the adapter fails without one; this is the documents' own
TABLE = "RANK_TABLE_FILE"
CHIEF = ("CM_CHIEF_IP", "CM_CHIEF_PORT", "CM_CHIEF_DEVICE", "CM_WORKER_SIZE", "CM_WORKER_IP")


@dataclass(frozen=True)
class Rank:
    """The process of this `number` of `size`, which uses the `device` of this number on its machine."""

    number: int
    size: int
    device: int


def given(environment: Mapping[str, str] = os.environ) -> Optional[Rank]:
    """The rank that the environment gives this process; None where it is by itself.

    Raises UsageError where the variables contradict each other or the rank table.
    """
    table = environment.get(TABLE)
    chief = [name for name in CHIEF if environment.get(name)]
    if table and chief:
        raise UsageError(f"{TABLE} and {chief[0]} are both set, and they exclude each other; unset one of them")
    if table:
        return _of_table(environment, table)
    if chief:
        return _of_chief(environment)
    if environment.get("RANK_SIZE") and _number(environment, "RANK_SIZE") > 1:
        raise UsageError(
            f"RANK_SIZE is {environment['RANK_SIZE']}, but neither {TABLE} nor {CHIEF[0]} says where the others are;"
            " set one of them, or unset RANK_SIZE"
        )
    return None


def started(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether somebody has started this process as one of several, rightly or not."""
    if environment.get(TABLE):
        return bool(environment.get("RANK_ID"))
    if any(environment.get(name) for name in CHIEF):
        return bool(environment.get("ASCEND_DEVICE_ID"))
    return environment.get("RANK_SIZE", "") not in ("", "1")


def read_table(path: str) -> Dict[int, int]:
    """The device of every rank in a rank table, by rank. Raises UsageError for a file that is none."""
    try:
        with open(path, "rb") as file:
            content = json.loads(decoded(file.read()))
    except OSError as error:
        raise UsageError(f"{TABLE} names {path}, which cannot be read ({error.strerror}); correct it") from error
    except ValueError as error:
        raise UsageError(f"{TABLE} names {path}, which is not JSON ({error}); correct the file") from error
    try:
        if content.get("status", "completed") != "completed":
            raise UsageError(f"the rank table {path} is not completed; wait until whoever writes it has done so")
        devices = _listed(content)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UsageError(
            f"{path} has no rank and device of every NPU ({type(error).__name__}: {error}); see HCCL's rank table"
        ) from error
    if sorted(devices) != list(range(len(devices))):
        raise UsageError(f"the ranks in {path} are not 0 to {len(devices) - 1}, each once; correct the file")
    return devices


def _listed(content: Dict[str, Any]) -> Dict[int, int]:
    """Version 1.0 lists servers, the older form groups of instances."""
    pairs = []
    for server in content.get("server_list", ()):
        pairs += [(device["rank_id"], device["device_id"]) for device in server["device"]]
    for group in content.get("group_list", ()):
        for instance in group["instance_list"]:
            pairs.append((instance["rank_id"], instance["devices"][0]["device_id"]))
    if not pairs:
        raise KeyError("server_list")
    if len({int(rank) for rank, _ in pairs}) < len(pairs):
        raise ValueError("a rank is there twice")
    return {int(rank): int(device) for rank, device in pairs}


def _of_table(environment: Mapping[str, str], path: str) -> Optional[Rank]:
    devices = read_table(path)
    number, size = _number(environment, "RANK_ID"), _number(environment, "RANK_SIZE")
    if len(devices) != size:
        raise UsageError(f"RANK_SIZE is {size}, and {path} lists {len(devices)} devices; make them agree")
    if number >= size:
        raise UsageError(f"RANK_ID is {number}, and with RANK_SIZE {size} it is 0 to {size - 1}; correct it")
    if size == 1:
        return None
    own = environment.get("ASCEND_DEVICE_ID")
    return Rank(number, size, _number(environment, "ASCEND_DEVICE_ID") if own is not None else devices[number])


def _of_chief(environment: Mapping[str, str]) -> Optional[Rank]:
    for name in ("RANK_ID", "RANK_SIZE"):
        if environment.get(name):
            raise UsageError(f"{name} is set beside {CHIEF[0]}, and they exclude each other; unset {name}")
    missing = [name for name in CHIEF if not environment.get(name)]
    if missing:
        raise UsageError(f"{' and '.join(missing)} not set, and the CM_ variables come together; set it too")
    size = _number(environment, "CM_WORKER_SIZE")
    if size <= 1:
        return None
    device = _number(environment, "ASCEND_DEVICE_ID")
    here = _number(environment, "CM_LOCAL_WORKER", size)
    number = _number(environment, "CM_RANK", 0) * here + device
    if device >= here or number >= size:
        raise UsageError(
            f"ASCEND_DEVICE_ID {device} makes rank {number} of {size} ({here} on a machine), which is none; number the"
            " devices from 0, and on several machines set CM_RANK and CM_LOCAL_WORKER, or use a rank table"
        )
    return Rank(number, size, device)


def _number(environment: Mapping[str, str], name: str, default: Optional[int] = None) -> int:
    text = environment.get(name)
    if not text and default is not None:
        return default
    if not text or not text.isdigit():
        raise UsageError(f"{name} is {text!r} in the environment, not a number; set it for every process")
    return int(text)
