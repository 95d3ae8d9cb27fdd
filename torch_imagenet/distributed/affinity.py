"""CPU affinity: distributes the cores of a machine over its ranks by the topology that Linux reports.

Cores are distributed whole, with all their hardware threads, and by NUMA node, because Linux allocates memory on the
node of the CPU that first touches it. Where the node of each device is known, the ranks of its devices share its cores.
CPUs that a scheduler, a container or taskset has excluded stay excluded.

Linux: Documentation/ABI/stable/sysfs-devices-system-cpu and -node, and testing/sysfs-bus-pci (`numa_node`).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from pathlib import Path
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Sequence, Set, Tuple

NodeCores = Dict[int, List["Core"]]  # the cores of each NUMA node


class Core(NamedTuple):
    """A physical core: its package (socket), NUMA node, and CPUs (hardware threads)."""

    package: int
    node: int
    cpus: Tuple[int, ...]


class Topology(NamedTuple):
    """The cores of a machine, sorted by node and lowest CPU."""

    cores: Tuple[Core, ...]

    def restricted(self, allowed: Iterable[int]) -> Topology:
        """The topology of these CPUs alone."""
        left = set(allowed)
        cores = (core._replace(cpus=tuple(cpu for cpu in core.cpus if cpu in left)) for core in self.cores)
        return Topology(tuple(core for core in cores if core.cpus))

    def nodes(self) -> NodeCores:
        """The cores of each NUMA node that has any."""
        found: NodeCores = {}
        for core in self.cores:
            found.setdefault(core.node, []).append(core)
        return found


class Placement(NamedTuple):
    """The CPUs of a rank: a line for the log, the number of compute threads, the number of CPUs."""

    line: Optional[str]
    threads: int  # one per core: hardware threads share its arithmetic units
    cpus: int


def apply(
    local_rank: int, local_size: int, device_module: Any = None, system: Path = Path("/sys"), bind: bool = True
) -> Placement:
    """Bind this process, with its present and future threads, to its share of the CPUs.

    `device_module` is `torch.get_device_module(device)`; local rank i uses its device i. Nothing is bound for a single
    rank, with fewer cores than ranks, where Slurm, mpirun or numactl has bound the rank already, on systems without
    sched_setaffinity, and without `bind`.
    """
    allowed = available()
    topology = read_topology(allowed, system)
    if local_size == 1 or not bind or not hasattr(os, "sched_setaffinity"):
        return _unbound(topology, local_size, None)
    if _is_bound(allowed):
        line = f"{describe(topology, allowed, local_rank)}, as it was started"
        return Placement(line, len(topology.cores), len(allowed))
    cpus = share(topology, allowed, local_rank, local_size, device_nodes(device_module, local_size, system))
    if not cpus:
        line = f"{len(topology.cores)} cores for {local_size} ranks: none is bound to CPUs"
        return _unbound(topology, local_size, line)
    _bind(cpus)
    return Placement(describe(topology, cpus, local_rank), len(topology.restricted(cpus).cores), len(cpus))


def share(
    topology: Topology,
    allowed: Iterable[int],
    local_rank: int,
    local_size: int,
    device_nodes: Sequence[Optional[int]] = (),
) -> Tuple[int, ...]:
    """The CPUs of rank `local_rank` of `local_size`, ascending; () where there are fewer cores than ranks.

    `device_nodes[r]` is the NUMA node of the device of rank r, None if unknown. Every allowed CPU belongs to some rank.
    """
    nodes = topology.restricted(allowed).nodes()
    if sum(map(len, nodes.values())) < local_size:
        return ()
    groups = _groups_by_device(nodes, device_nodes, local_size) or _groups_by_node(nodes, local_size)
    for group, ranks in groups:
        if local_rank in ranks:
            number, parts = ranks.index(local_rank), len(ranks)
            turns = itertools.cycle((number, parts - 1 - number))  # alternates the ranks that get an odd core
            cores = (core for node, turn in zip(group, turns) for core in _slice(nodes[node], turn, parts))
            return tuple(sorted(cpu for core in cores for cpu in core.cpus))
    raise ValueError(f"rank {local_rank} is not one of {local_size}")


def _slice(cores: List[Core], number: int, parts: int) -> List[Core]:
    """Part `number` of `parts` nearly equal ones; the first parts are the longer ones."""
    size, longer = divmod(len(cores), parts)
    start = number * size + min(number, longer)
    return cores[start : start + size + (number < longer)]


Group = Tuple[List[int], List[int]]  # NUMA nodes, and the ranks that share each of them equally


def _groups_by_device(nodes: NodeCores, device_nodes: Sequence[Optional[int]], size: int) -> List[Group]:
    """One group for every node with devices; [] where a node is unknown, excluded, or has too few cores.

    A node without devices joins the group of its package with the fewest cores per rank.
    """
    groups: Dict[int, Group] = {}
    for rank, node in enumerate(device_nodes[:size]):
        if node is None or node not in nodes:
            return []
        groups.setdefault(node, ([node], []))[1].append(rank)
    if len(device_nodes) < size or any(len(nodes[node]) < len(ranks) for node, (_, ranks) in groups.items()):
        return []

    def distance(home: int, node: int) -> Tuple[bool, float]:
        members, ranks = groups[home]
        near = nodes[home][0].package == nodes[node][0].package
        return not near, sum(len(nodes[member]) for member in members) / len(ranks)

    for node in sorted(nodes.keys() - groups.keys()):
        groups[min(sorted(groups), key=lambda home: distance(home, node))][0].append(node)
    return list(groups.values())


def _groups_by_node(nodes: NodeCores, size: int) -> List[Group]:
    """Distributes consecutive ranks over consecutive nodes; maximises the cores of the rank that has the fewest."""
    groups = [[node] for node in sorted(nodes)]
    cores = [len(nodes[node]) for node in sorted(nodes)]
    while len(groups) > size:  # more nodes than ranks: merge neighbours, within a package first, the smallest first
        separate = [nodes[left[-1]][0].package != nodes[right[0]][0].package for left, right in zip(groups, groups[1:])]
        first = min(range(len(separate)), key=lambda at: (separate[at], cores[at] + cores[at + 1]))
        groups[first : first + 2] = [groups[first] + groups[first + 1]]
        cores[first : first + 2] = [cores[first] + cores[first + 1]]
    ranks = [1] * len(groups)
    for _ in range(size - len(groups)):  # D'Hondt's method maximises the smallest share
        ranks[max(range(len(groups)), key=lambda at: cores[at] / (ranks[at] + 1))] += 1
    starts = [sum(ranks[:at]) for at in range(len(ranks))]
    return [(group, list(range(start, start + count))) for group, start, count in zip(groups, starts, ranks)]


def describe(topology: Topology, cpus: Iterable[int], local_rank: int) -> str:
    """One line for the log, as in "CPUs 0-3,8-11 (NUMA node 0) for rank 2"."""
    nodes = topology.restricted(cpus).nodes()
    plural = "s" if len(nodes) > 1 else ""
    return f"CPUs {ranges(cpus)} (NUMA node{plural} {ranges(nodes)}) for rank {local_rank}"


# -- what Linux reports ----------------------------------------------------------------------------------------


def available() -> Set[int]:
    """The CPUs on which this process may run."""
    if hasattr(os, "sched_getaffinity"):
        return set(os.sched_getaffinity(0))
    return set(range(os.cpu_count() or 1))


def read_topology(cpus: Iterable[int], system: Path = Path("/sys")) -> Topology:
    """The cores of these CPUs. Without information every CPU counts as a core of node 0."""
    folder = system / "devices" / "system"
    node_of: Dict[int, int] = {}
    for path in (folder / "node").glob("node[0-9]*"):
        node_of.update(dict.fromkeys(_listed(path / "cpulist"), int(path.name[4:])))
    cores: Dict[Tuple[int, ...], Core] = {}
    known = set(cpus)
    for cpu in sorted(known):
        details = folder / "cpu" / f"cpu{cpu}" / "topology"
        siblings = tuple(sorted(known.intersection(_listed(details / "thread_siblings_list")) | {cpu}))
        package = _number(details / "physical_package_id") or 0
        cores.setdefault(siblings, Core(package, node_of.get(cpu, 0), siblings))
    return Topology(tuple(sorted(cores.values(), key=lambda core: (core.node, core.cpus))))


def device_nodes(device_module: Any, count: int, system: Path = Path("/sys")) -> Tuple[Optional[int], ...]:
    """The NUMA node of each device from 0 to `count` - 1; None where torch or Linux does not know it."""
    properties = getattr(device_module, "get_device_properties", None)
    if properties is None or device_module.device_count() < count:  # a CPU, or each rank sees only its own device
        return (None,) * count
    return tuple(_device_node(properties(index), system) for index in range(count))


def _device_node(properties: Any, system: Path) -> Optional[int]:
    domain, bus, device = (getattr(properties, f"pci_{part}_id", None) for part in ("domain", "bus", "device"))
    if domain is None or bus is None or device is None:  # torch_npu, and older versions of torch
        return None
    name = f"{domain:04x}:{bus:02x}:{device:02x}.0"
    node = _number(system / "bus" / "pci" / "devices" / name / "numa_node")
    return node if node is not None and node >= 0 else None  # -1: unknown to the firmware


def _listed(path: Path) -> Set[int]:
    """The numbers of a file such as "0-3,8-11"; empty where there is no file."""
    found: Set[int] = set()
    with contextlib.suppress(OSError):
        for first, last in re.findall(r"(\d+)(?:-(\d+))?", path.read_text(encoding="ascii")):
            found.update(range(int(first), int(last or first) + 1))
    return found


def _number(path: Path) -> Optional[int]:
    with contextlib.suppress(OSError, ValueError):
        return int(path.read_text(encoding="ascii"))
    return None


def ranges(numbers: Iterable[int]) -> str:
    """Integers as ranges in Linux's notation: "0-3,8-11"."""
    runs: List[List[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


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


def _unbound(topology: Topology, local_size: int, line: Optional[str]) -> Placement:
    """No binding: every rank runs on all CPUs, and counts on an equal part of them."""
    cpus = sum(len(core.cpus) for core in topology.cores)
    return Placement(line, max(1, len(topology.cores) // local_size), max(1, cpus // local_size))
