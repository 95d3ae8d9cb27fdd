"""Machines for the tests of CPU affinity, as `lscpu` and `nvidia-smi topo -m` show them, written as /sys has them."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, NamedTuple, Sequence, Tuple

from torch_imagenet.distributed.affinity import Core, ranges


class Machine(NamedTuple):
    """Its cores, and the PCI devices' NUMA nodes as the system reports them (-1 where it does not know)."""

    cores: Tuple[Core, ...]
    devices: Tuple[int, ...] = ()

    @property
    def cpus(self) -> List[int]:
        return sorted(cpu for core in self.cores for cpu in core.cpus)

    def node(self, number: int) -> List[int]:
        """The CPUs of a NUMA node."""
        return sorted(cpu for core in self.cores if core.node == number for cpu in core.cpus)

    def write(self, system: Path) -> Path:
        """Make the part of /sys that tells all this; offline CPUs have a folder without a topology."""
        for core in self.cores:
            for cpu in core.cpus:
                topology = system / "devices/system/cpu" / f"cpu{cpu}" / "topology"
                topology.mkdir(parents=True)
                (topology / "thread_siblings_list").write_text(ranges(core.cpus) + "\n")
        for number in {core.node for core in self.cores}:
            folder = system / "devices/system/node" / f"node{number}"
            folder.mkdir(parents=True)
            (folder / "cpulist").write_text(ranges(self.node(number)) + "\n")
        (system / "devices/system/node/possible").write_text("0-63\n")
        for index, node in enumerate(self.devices):
            folder = system / "bus/pci/devices" / f"0000:{pci_bus(index):02x}:00.0"
            folder.mkdir(parents=True)
            (folder / "numa_node").write_text(f"{node}\n")
        return system


def pci_bus(index: int) -> int:
    """The PCI bus of the device of this index."""
    return 0x17 + 0x11 * index


def regular(nodes: Sequence[Sequence[int]], threads_apart: int = 0, devices: Sequence[int] = ()) -> Machine:
    """Nodes of cores whose second thread, if any, has a number that much higher."""
    cores = [
        Core(number, (cpu, cpu + threads_apart) if threads_apart else (cpu,))
        for number, cpus in enumerate(nodes)
        for cpu in cpus
    ]
    return Machine(tuple(cores), tuple(devices))


def _blocks(nodes: int, size: int) -> List[range]:
    return [range(start, start + size) for start in range(0, nodes * size, size)]


MACHINES: Dict[str, Machine] = {
    # Two sockets of 20 cores: "NUMA node0 CPU(s): 0-19,40-59".
    "xeon": regular(_blocks(2, 20), 40, [0, 0, 0, 0, 1, 1, 1, 1]),
    # The same numbered by another firmware, "NUMA node0 CPU(s): 0,2,4,...": even CPUs on one socket, odd on the other.
    "interleaved": regular([range(0, 40, 2), range(1, 40, 2)], 40, [0, 0, 0, 0, 1, 1, 1, 1]),
    # Hyper-threading off: the second threads are offline, and the system lists them nowhere.
    "offline": regular(_blocks(2, 20), 0, [-1] * 8),
    # DGX A100, two EPYC 7742 with four nodes each (NPS4); its GPUs hang on four of the eight (NCCL's issue 1505).
    "dgx": regular(_blocks(8, 16), 128, [3, 3, 1, 1, 7, 7, 5, 5]),
    # Two Kunpeng 920 of 96 cores without hardware threads, four nodes, eight NPUs whose nodes torch_npu does not tell.
    "kunpeng": regular(_blocks(4, 48)),
    # Four Kunpeng 920 of 48 cores, two nodes each, and eight 910B as `npu-smi info -t topo` shows their CPUs: 144-167,
    # 0-23, 144-167, 0-23, 96-119, 48-71, 96-119, 48-71; if torch_npu told.
    "atlas": regular(_blocks(8, 24), 0, [6, 0, 6, 0, 4, 2, 4, 2]),
    # i7-12700H: six cores of two threads and eight of one, one node.
    "laptop": Machine(
        (*(Core(0, (cpu, cpu + 1)) for cpu in range(0, 12, 2)), *(Core(0, (cpu,)) for cpu in range(12, 20)))
    ),
}
