"""CPU affinity: distributes the cores of a machine over its ranks by the topology that Linux reports.

Cores are distributed whole, with all their hardware threads, and by NUMA node, because Linux allocates memory on the
node of the CPU that first touches it. CPUs that a scheduler, a container or taskset has excluded stay excluded.

Linux: Documentation/ABI/stable/sysfs-devices-system-cpu and -node, and testing/sysfs-bus-pci (`numa_node`).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from pathlib import Path
from typing import Any, Iterable, List, NamedTuple, Optional, Sequence, Set, Tuple


class Core(NamedTuple):
    """A physical core: its NUMA node and its CPUs (hardware threads)."""

    node: int
    cpus: Tuple[int, ...]


class Placement(NamedTuple):
    """The CPUs of a rank: a line for the log, the number of compute threads, the number of CPUs."""

    line: Optional[str]
    threads: int  # one per core: hardware threads share its arithmetic units
    cpus: int


def apply(
    local_rank: int, local_size: int, device_module: Any = None, system: Path = Path("/sys"), bind: bool = True
) -> Placement:
    """Bind this process, with its present and future threads, to its share of the CPUs.

    `device_module` is `torch.get_device_module(device)`, None for a CPU; local rank i uses its device i. Nothing is
    bound for a single rank, with fewer cores than ranks, where Slurm, mpirun or numactl has bound the rank already, on
    systems without sched_setaffinity, and without `bind`.
    """
    allowed = available()
    cores, line = read_cores(allowed, system), None
    if local_size > 1 and bind and hasattr(os, "sched_setaffinity"):
        if _is_bound(allowed):
            return Placement(f"{describe(cores, local_rank)}, as it was started", len(cores), len(allowed))
        own = share(cores, local_rank, local_size, device_nodes(device_module, local_size, system))
        if own:
            _bind(cpus_of(own))
            return Placement(describe(own, local_rank), len(own), len(cpus_of(own)))
        line = f"{len(cores)} cores for {local_size} ranks: none is bound to CPUs"
    # Every rank runs on all CPUs, and counts on an equal part of them.
    return Placement(line, max(1, len(cores) // local_size), max(1, len(allowed) // local_size))


def share(
    cores: Sequence[Core], local_rank: int, local_size: int, device_nodes: Sequence[Optional[int]] = ()
) -> List[Core]:
    """Of `cores`, sorted, those of rank `local_rank` of `local_size`; [] where there are fewer cores than ranks.

    `device_nodes[r]` is the NUMA node of the device of rank r, None if unknown. The ranks of a node share its cores
    equally. Where a node is unknown, excluded, or has too few cores, consecutive ranks get consecutive nodes. A node
    without ranks is shared by those of the node with the fewest cores per rank, the nearest by number.
    """
    if len(cores) < local_size:
        return []
    nodes = {node: list(group) for node, group in itertools.groupby(cores, key=lambda core: core.node)}
    homes = [node for node in device_nodes if node is not None]
    if len(homes) < local_size or any(len(nodes.get(node, ())) < homes.count(node) for node in homes):
        homes = [cores[(2 * rank + 1) * len(cores) // (2 * local_size)].node for rank in range(local_size)]
    shared = {home: [nodes[home]] for home in sorted(set(homes))}
    for node in sorted(nodes.keys() - shared.keys()):
        per_rank = {home: sum(map(len, parts)) / homes.count(home) for home, parts in shared.items()}
        shared[min(shared, key=lambda home: (per_rank[home], abs(home - node)))].append(nodes[node])
    own = homes[local_rank]
    number, count = homes[:local_rank].count(own), homes.count(own)
    slices = (part[number * len(part) // count : (number + 1) * len(part) // count] for part in shared[own])
    return sorted(itertools.chain.from_iterable(slices))


def describe(cores: Sequence[Core], local_rank: int) -> str:
    """One line for the log, as in "CPUs 0-3,8-11 (NUMA node 0) for rank 2"."""
    nodes = {core.node for core in cores}
    plural = "s" if len(nodes) > 1 else ""
    return f"CPUs {ranges(cpus_of(cores))} (NUMA node{plural} {ranges(nodes)}) for rank {local_rank}"


def cpus_of(cores: Iterable[Core]) -> List[int]:
    """The CPUs of these cores, ascending."""
    return sorted(cpu for core in cores for cpu in core.cpus)


def ranges(numbers: Iterable[int]) -> str:
    """Integers as ranges in Linux's notation: "0-3,8-11"."""
    texts = []
    for _, run in itertools.groupby(enumerate(sorted(numbers)), key=lambda pair: pair[1] - pair[0]):
        first, *others = (number for _, number in run)
        texts.append(f"{first}-{others[-1]}" if others else str(first))
    return ",".join(texts)


# -- what Linux reports ----------------------------------------------------------------------------------------


def available() -> Set[int]:
    """The CPUs on which this process may run."""
    if hasattr(os, "sched_getaffinity"):
        return set(os.sched_getaffinity(0))
    return set(range(os.cpu_count() or 1))


def read_cores(cpus: Set[int], system: Path = Path("/sys")) -> List[Core]:
    """The cores of these CPUs, sorted. Without information every CPU counts as a core of node 0."""
    folder = system / "devices" / "system"
    lists = {int(path.parent.name[4:]): _listed(path) for path in (folder / "node").glob("node[0-9]*/cpulist")}
    node_of = {cpu: node for node, listed in lists.items() for cpu in listed}
    siblings = {cpu: _listed(folder / "cpu" / f"cpu{cpu}" / "topology" / "thread_siblings_list") for cpu in cpus}
    return sorted({Core(node_of.get(cpu, 0), tuple(sorted(siblings[cpu] & cpus | {cpu}))) for cpu in cpus})


def device_nodes(device_module: Any, count: int, system: Path = Path("/sys")) -> List[Optional[int]]:
    """The NUMA node of each device from 0 to `count` - 1, None where the firmware does not know it.

    [] for a CPU, where each rank sees only its own device, and where torch gives no PCI address, as torch_npu.
    """
    if device_module is None or device_module.device_count() < count:
        return []
    nodes: List[Optional[int]] = []
    for properties in map(device_module.get_device_properties, range(count)):
        domain, bus, device = (getattr(properties, f"pci_{part}_id", None) for part in ("domain", "bus", "device"))
        if domain is None or bus is None or device is None:
            return []
        node = _text(system / "bus" / "pci" / "devices" / f"{domain:04x}:{bus:02x}:{device:02x}.0" / "numa_node")
        nodes.append(int(node) if node.isdigit() else None)  # "-1": unknown
    return nodes


def _listed(path: Path) -> Set[int]:
    """The numbers of a file such as "0-3,8-11"; empty where there is no file."""
    pairs = re.findall(r"(\d+)(?:-(\d+))?", _text(path))
    return {number for first, last in pairs for number in range(int(first), int(last or first) + 1)}


def _text(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text(encoding="ascii").strip()
    return ""


# -- binding ---------------------------------------------------------------------------------------------------


def _bind(cpus: Sequence[int]) -> None:
    """Bind every thread of the process; threads that NumPy's libraries have started have masks of their own."""
    threads = [0]
    with contextlib.suppress(OSError):
        threads += [int(name) for name in os.listdir("/proc/self/task")]
    for thread in threads:
        with contextlib.suppress(ProcessLookupError):  # the thread has ended
            os.sched_setaffinity(thread, cpus)


def _is_bound(allowed: Set[int]) -> bool:
    """Whether this process was bound when it was started: it has fewer CPUs than its parent.

    Under torch's launcher all ranks inherit the CPUs of the launcher. A scheduler that binds each task keeps more.
    """
    with contextlib.suppress(OSError):
        return allowed < os.sched_getaffinity(os.getppid())
    return False
