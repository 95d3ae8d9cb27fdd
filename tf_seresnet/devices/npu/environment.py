"""The rank of this process among the adapter's ranks, one NPU each, from environment variables.

Ascend documents two mutually exclusive ways ("Distributed Training with Multiple Devices" of the TF Adapter): a rank
table, with RANK_ID and RANK_SIZE, and the CM_ variables with ASCEND_DEVICE_ID; docs/distributed.md lists them. Where
they contradict each other, the adapter waits for minutes, ends the process or silently trains alone.
"""

from __future__ import annotations

import json
import os
from typing import Dict, List, Mapping, NamedTuple, Optional, Tuple

from shared.errors import UsageError
from shared.text import decoded

JOB_ID = "10087"  # the documents' value; the adapter fails without one, whatever its value
TABLE = "RANK_TABLE_FILE"
CHIEF = ("CM_CHIEF_IP", "CM_CHIEF_PORT", "CM_CHIEF_DEVICE", "CM_WORKER_SIZE", "CM_WORKER_IP")


class Rank(NamedTuple):
    """Process `number` of `size`, which uses the NPU with index `device` of its machine."""

    number: int
    size: int
    device: int


def current_rank(environment: Mapping[str, str] = os.environ) -> Optional[Rank]:
    """The rank of this process; None if it trains alone. Raises UsageError if the variables contradict each other."""
    table, chief = rendezvous(environment)
    if table:
        return _rank_of_table(environment, table)
    if chief:
        return _rank_of_chief(environment)
    if environment.get("RANK_SIZE") and _integer(environment, "RANK_SIZE") > 1:
        raise UsageError(
            f"RANK_SIZE is {environment['RANK_SIZE']}, but neither {TABLE} nor {CHIEF[0]} says where the others are;"
            " set one of them, or unset RANK_SIZE"
        )
    return None


def rendezvous(environment: Mapping[str, str] = os.environ) -> Tuple[str, List[str]]:
    """The path of the rank table or "", and the CM_ variables that are set. Raises UsageError if both ways are used."""
    table = environment.get(TABLE, "")
    chief = [name for name in CHIEF if environment.get(name)]
    if table and chief:
        raise UsageError(f"{TABLE} and {chief[0]} are both set, and they exclude each other; unset one of them")
    return table, chief


def is_rank(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process was started as one of several, be its variables consistent or not."""
    if environment.get(TABLE):
        return bool(environment.get("RANK_ID"))
    if any(environment.get(name) for name in CHIEF):
        return bool(environment.get("ASCEND_DEVICE_ID"))
    return environment.get("RANK_SIZE", "") not in ("", "1")


def read_rank_table(path: str) -> Dict[int, int]:
    """The device index of every rank, by rank. Raises UsageError for a file that is not a rank table."""
    try:
        with open(path, "rb") as file:
            content = json.loads(decoded(file.read()))
        if content.get("status", "completed") != "completed":
            raise UsageError(f"the rank table {path} is not completed; wait until it has been written")
        # Version 1.0 is a list of servers, the older form has groups of instances.
        devices = [device for server in content.get("server_list", ()) for device in server["device"]]
        pairs = [(int(device["rank_id"]), int(device["device_id"])) for device in devices]
        instances = [instance for group in content.get("group_list", ()) for instance in group["instance_list"]]
        pairs += [(int(instance["rank_id"]), int(instance["devices"][0]["device_id"])) for instance in instances]
        if not pairs or sorted(rank for rank, _ in pairs) != list(range(len(pairs))):
            raise ValueError("it does not list the ranks 0, 1, ..., each once")
        return dict(pairs)
    except OSError as error:
        raise UsageError(f"{TABLE} names {path}, which cannot be read ({error.strerror}); correct it") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UsageError(
            f"{TABLE} names {path}, which is no rank table of HCCL ({type(error).__name__}: {error}); correct the file"
        ) from error


def _rank_of_table(environment: Mapping[str, str], path: str) -> Optional[Rank]:
    devices = read_rank_table(path)
    number, size = _integer(environment, "RANK_ID"), _integer(environment, "RANK_SIZE")
    if not number < size == len(devices):
        raise UsageError(
            f"RANK_ID is {number} and RANK_SIZE {size}, but {path} has ranks 0 to {len(devices) - 1}; make them agree"
        )
    if size == 1:
        return None
    return Rank(number, size, _integer(environment, "ASCEND_DEVICE_ID", devices[number]))


def _rank_of_chief(environment: Mapping[str, str]) -> Optional[Rank]:
    beside = [name for name in ("RANK_ID", "RANK_SIZE") if environment.get(name)]
    if beside:
        raise UsageError(f"{beside[0]} is set beside {CHIEF[0]}, and they exclude each other; unset {beside[0]}")
    missing = [name for name in CHIEF if not environment.get(name)]
    if missing:
        raise UsageError(f"{' and '.join(missing)} not set, but the CM_ variables must be set together; set it too")
    size = _integer(environment, "CM_WORKER_SIZE")
    if size <= 1:
        return None
    device = _integer(environment, "ASCEND_DEVICE_ID")
    per_machine = _integer(environment, "CM_LOCAL_WORKER", size)
    number = _integer(environment, "CM_RANK", 0) * per_machine + device
    if device >= per_machine or number >= size:
        raise UsageError(
            f"ASCEND_DEVICE_ID {device} makes rank {number} of {size} ({per_machine} per machine), which does not exist"
            "; number the devices from 0, and on several machines set CM_RANK and CM_LOCAL_WORKER, or use a rank table"
        )
    return Rank(number, size, device)


def _integer(environment: Mapping[str, str], name: str, default: Optional[int] = None) -> int:
    text = environment.get(name)
    if not text and default is not None:
        return default
    if not text or not text.isdigit():
        raise UsageError(f"{name} is {text!r} in the environment, not a number; set it for every process")
    return int(text)
