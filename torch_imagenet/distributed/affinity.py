"""Which CPUs each of several ranks on one machine uses, from the machine's real topology.

The cores are shared out in whole (both hardware threads of one go to the same rank), NUMA node by NUMA node, so that a
rank's memory, which Linux places on the node of the CPU that first touches it, stays near. Where the system knows to
which node a device is connected, the ranks of that device's node share its cores. What a scheduler, a container or
taskset has taken away from the process is never given back to it.

Linux's documents: Documentation/ABI/stable/sysfs-devices-system-cpu and -node, testing/sysfs-bus-pci (`numa_node`).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from pathlib import Path
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Sequence, Set, Tuple

Slots = Dict[int, List["Core"]]  # NUMA node to its cores


class Core(NamedTuple):
    """A physical core: its package (socket), its NUMA node, and its CPUs, which are its hardware threads."""

    package: int
    node: int
    cpus: Tuple[int, ...]


class Topology(NamedTuple):
    """The cores of a machine, by node and lowest CPU."""

    cores: Tuple[Core, ...]

    def restricted(self, allowed: Iterable[int]) -> Topology:
        """The same with no other CPUs than these."""
        left = set(allowed)
        cores = (core._replace(cpus=tuple(cpu for cpu in core.cpus if cpu in left)) for core in self.cores)
        return Topology(tuple(core for core in cores if core.cpus))

    def nodes(self) -> Slots:
        """The cores of each NUMA node that has any."""
        found: Slots = {}
        for core in self.cores:
            found.setdefault(core.node, []).append(core)
        return found


class Placement(NamedTuple):
    """Where a rank computes: what to say of it, how many threads to compute with, how many CPUs its workers have."""

    line: Optional[str]
    threads: int  # physical cores: two hardware threads of one share its arithmetic units
    cpus: int


def apply(
    local_rank: int, local_size: int, device_module: Any = None, system: Path = Path("/sys"), bind: bool = True
) -> Placement:
    """Bind this process, with all threads it has and will have, to its share of the CPUs.

    `device_module` is `torch.get_device_module(device)`, whose device i belongs to local rank i. Nothing is bound where
    one rank has the machine for itself, where there are fewer cores than ranks, where the rank has been bound by what
    started it (Slurm, mpirun, numactl), on systems that bind no process, and without `bind`.
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
    """The CPUs of one of `local_size` ranks, ascending; () where there are fewer cores than ranks.

    `device_nodes[r]` is the NUMA node of rank r's device, None where it is unknown. Every allowed CPU is some rank's.
    """
    nodes = topology.restricted(allowed).nodes()
    if sum(map(len, nodes.values())) < local_size:
        return ()
    groups = _groups_of_devices(nodes, device_nodes, local_size) or _groups_of_nodes(nodes, local_size)
    for group, ranks in groups:
        if local_rank in ranks:
            number, parts = ranks.index(local_rank), len(ranks)
            turns = itertools.cycle((number, parts - 1 - number))  # the ranks of a node's longer parts take turns
            cores = (core for node, turn in zip(group, turns) for core in _slice(nodes[node], turn, parts))
            return tuple(sorted(cpu for core in cores for cpu in core.cpus))
    raise ValueError(f"rank {local_rank} is not one of {local_size}")


def _slice(cores: List[Core], number: int, parts: int) -> List[Core]:
    """A part of a list cut as evenly as it can be, the first parts being the longer ones."""
    size, longer = divmod(len(cores), parts)
    start = number * size + min(number, longer)
    return cores[start : start + size + (number < longer)]


Group = Tuple[List[int], List[int]]  # NUMA nodes and the ranks that share each of them evenly


def _groups_of_devices(nodes: Slots, device_nodes: Sequence[Optional[int]], size: int) -> List[Group]:
    """A group for every node with devices; [] where a node is unknown, not allowed, or has too few cores.

    The cores of a node without devices go to the group of the same package that has the fewest for each rank.
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


def _groups_of_nodes(nodes: Slots, size: int) -> List[Group]:
    """Ranks in their order over the nodes in theirs, so that the rank with the fewest cores has as many as can be."""
    groups = [[node] for node in sorted(nodes)]
    cores = [len(nodes[node]) for node in sorted(nodes)]
    while len(groups) > size:  # a rank has several nodes: join neighbours, of one package first, the smallest first
        apart = [nodes[left[-1]][0].package != nodes[right[0]][0].package for left, right in zip(groups, groups[1:])]
        first = min(range(len(apart)), key=lambda at: (apart[at], cores[at] + cores[at + 1]))
        groups[first : first + 2] = [groups[first] + groups[first + 1]]
        cores[first : first + 2] = [cores[first] + cores[first + 1]]
    ranks = [1] * len(groups)
    for _ in range(size - len(groups)):  # D'Hondt's method, which makes the smallest share as large as possible
        ranks[max(range(len(groups)), key=lambda at: cores[at] / (ranks[at] + 1))] += 1
    starts = [sum(ranks[:at]) for at in range(len(ranks))]
    return [(group, list(range(start, start + count))) for group, start, count in zip(groups, starts, ranks)]


def describe(topology: Topology, cpus: Iterable[int], local_rank: int) -> str:
    """One line for the log, as in "CPUs 0-3,8-11 (NUMA node 0) for rank 2"."""
    nodes = topology.restricted(cpus).nodes()
    plural = "s" if len(nodes) > 1 else ""
    return f"CPUs {ranges(cpus)} (NUMA node{plural} {ranges(nodes)}) for rank {local_rank}"


# -- what the system says --------------------------------------------------------------------------------------


def available() -> Set[int]:
    """The CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return set(os.sched_getaffinity(0))
    return set(range(os.cpu_count() or 1))


def read_topology(cpus: Iterable[int], system: Path = Path("/sys")) -> Topology:
    """The cores that these CPUs belong to. What the system does not tell is taken to be one core a CPU, on node 0."""
    folder = system / "devices" / "system"
    node_of: Dict[int, int] = {}
    for path in (folder / "node").glob("node[0-9]*"):
        node_of.update(dict.fromkeys(_listed(path / "cpulist"), int(path.name[4:])))
    cores: Dict[Tuple[int, ...], Core] = {}
    wanted = set(cpus)
    for cpu in sorted(wanted):
        details = folder / "cpu" / f"cpu{cpu}" / "topology"
        siblings = tuple(sorted(wanted.intersection(_listed(details / "thread_siblings_list")) | {cpu}))
        package = _number(details / "physical_package_id") or 0
        cores.setdefault(siblings, Core(package, node_of.get(cpu, 0), siblings))
    return Topology(tuple(sorted(cores.values(), key=lambda core: (core.node, core.cpus))))


def device_nodes(device_module: Any, count: int, system: Path = Path("/sys")) -> Tuple[Optional[int], ...]:
    """The NUMA nodes of the devices 0 to `count` - 1, None where torch or the system does not know one's."""
    properties = getattr(device_module, "get_device_properties", None)
    if properties is None or device_module.device_count() < count:  # the CPU; each rank sees its own device alone
        return (None,) * count
    return tuple(_device_node(properties(index), system) for index in range(count))


def _device_node(properties: Any, system: Path) -> Optional[int]:
    domain, bus, device = (getattr(properties, f"pci_{part}_id", None) for part in ("domain", "bus", "device"))
    if domain is None or bus is None or device is None:  # torch_npu, and torch before it told them
        return None
    name = f"{domain:04x}:{bus:02x}:{device:02x}.0"
    node = _number(system / "bus" / "pci" / "devices" / name / "numa_node")
    return node if node is not None and node >= 0 else None  # -1: the firmware does not say


def _listed(path: Path) -> Set[int]:
    """The CPUs of a list such as "0-3,8-11"; none where there is no such file."""
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
    """Whole numbers as the system writes them: "0-3,8-11"."""
    runs: List[List[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


# -- binding ---------------------------------------------------------------------------------------------------


def _bind(cpus: Sequence[int]) -> None:
    """Bind every thread of the process: what NumPy's libraries have started before has its own mask."""
    threads = [0]
    with contextlib.suppress(OSError):
        threads += [int(name) for name in os.listdir("/proc/self/task")]
    for thread in threads:
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.sched_setaffinity(thread, cpus)


def _is_bound(allowed: Set[int]) -> bool:
    """Whether what started this process has taken CPUs away from it alone: they are its share already.

    torch's launcher hands its own CPUs on to all ranks; a scheduler that binds each task keeps the others for itself.
    """
    with contextlib.suppress(OSError):
        return allowed < os.sched_getaffinity(os.getppid())
    return False


def _unbound(topology: Topology, local_size: int, line: Optional[str]) -> Placement:
    """All ranks on all CPUs: each counts on its part of them."""
    cpus = sum(len(core.cpus) for core in topology.cores)
    return Placement(line, max(1, len(topology.cores) // local_size), max(1, cpus // local_size))
