"""CPUs of ranks: on real machines' topologies, on generated ones, against torch's binding, and in real processes."""

from __future__ import annotations

import builtins
import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.torch_imagenet.distributed.machines import MACHINES, Machine, pci_bus
from torch_imagenet.distributed import affinity
from torch_imagenet.distributed.affinity import Core, cpus_of, device_nodes, read_cores, share

ROOT = Path(__file__).resolve().parents[3]


def shares(cores, ranks, nodes=()):
    return [share(cores, rank, ranks, nodes) for rank in range(ranks)]


def listed(found):
    return [affinity.ranges(cpus_of(cores)) for cores in found]


def module(machine: Machine):
    """What torch.cuda is asked on the machine."""

    def properties(index):
        return SimpleNamespace(pci_domain_id=0, pci_bus_id=pci_bus(index), pci_device_id=0)

    return SimpleNamespace(device_count=lambda: len(machine.devices), get_device_properties=properties)


def on(name, ranks, tmp_path, allowed=None):
    """The shares on a machine, read from its /sys as a rank reads them, as text."""
    machine = MACHINES[name]
    system = machine.write(tmp_path / "sys")
    cores = read_cores(set(machine.cpus if allowed is None else allowed), system)
    return listed(shares(cores, ranks, device_nodes(module(machine), ranks, system)))


# -- real machines ---------------------------------------------------------------------------------------------


def test_two_sockets_with_two_threads_a_core(tmp_path):
    assert on("xeon", 8, tmp_path)[:2] == ["0-4,40-44", "5-9,45-49"]
    assert on("xeon", 2, tmp_path / "2") == ["0-9,20-29,40-49,60-69", "10-19,30-39,50-59,70-79"]  # both GPUs on node 0


def test_a_socket_with_every_other_cpu(tmp_path):
    found = on("interleaved", 8, tmp_path)
    assert found[0] == "0,2,4,6,8,40,42,44,46,48"
    assert found[7] == "31,33,35,37,39,71,73,75,77,79"


def test_offline_threads_and_unknown_nodes(tmp_path):
    """SMT off, and a firmware that reports -1 for every device: ranks in order over the nodes in order."""
    assert on("offline", 8, tmp_path) == [f"{start}-{start + 4}" for start in range(0, 40, 5)]


def test_dgx_a100_has_devices_on_half_of_its_nodes(tmp_path):
    """Each rank has half of its GPU's node, and half of a node of the same socket that has no GPU."""
    found = on("dgx", 8, tmp_path)
    assert found[:4] == [
        "32-39,48-55,160-167,176-183",
        "40-47,56-63,168-175,184-191",
        "0-7,16-23,128-135,144-151",
        "8-15,24-31,136-143,152-159",
    ]
    assert found[4] == "96-103,112-119,224-231,240-247"


def test_kunpeng_with_eight_npus(tmp_path):
    assert on("kunpeng", 8, tmp_path) == [f"{start}-{start + 23}" for start in range(0, 192, 24)]
    found = on("atlas", 8, tmp_path / "atlas")  # half of its own node, and of the other one of its processor
    assert found[:4] == ["144-155,168-179", "0-11,24-35", "156-167,180-191", "12-23,36-47"]
    assert on("kunpeng", 2, tmp_path / "2") == ["0-95", "96-191"]  # two nodes of one socket each


def test_a_laptop_with_two_kinds_of_cores(tmp_path):
    assert on("laptop", 3, tmp_path) == ["0-7", "8-14", "15-19"]  # 4, 5 and 5 cores


def test_a_container_keeps_to_its_cpus(tmp_path):
    """Four cores of node 0, two of them with both threads, and one core of node 1."""
    allowed = [4, 5, 6, 7, 44, 45, 20, 60]
    assert on("xeon", 2, tmp_path, allowed) == ["4-5,44-45", "6-7,20,60"]  # both devices are on node 0
    assert on("xeon", 5, tmp_path / "5", allowed) == ["4,44", "5,45", "6", "7", "20,60"]
    assert on("xeon", 6, tmp_path / "6", allowed) == [""] * 6


@pytest.mark.parametrize("name", sorted(MACHINES))
def test_a_machine_is_read_as_it_is(name, tmp_path):
    machine = MACHINES[name]
    assert read_cores(set(machine.cpus), machine.write(tmp_path)) == sorted(machine.cores)


def test_where_the_system_tells_nothing_each_cpu_is_a_core(tmp_path):
    assert read_cores({3, 1}, tmp_path) == [Core(0, (1,)), Core(0, (3,))]
    assert device_nodes(module(MACHINES["xeon"]), 2, tmp_path) == [None, None]


def test_devices_whose_node_is_not_known(tmp_path):
    xeon = MACHINES["xeon"]
    system = xeon.write(tmp_path / "sys")
    assert device_nodes(module(xeon), 8, system) == list(xeon.devices)
    assert device_nodes(module(xeon), 9, system) == []  # more ranks than devices in sight
    assert device_nodes(None, 2, system) == []  # the CPU
    torch_npu = SimpleNamespace(device_count=lambda: 8, get_device_properties=lambda index: object())
    assert device_nodes(torch_npu, 2, system) == []  # properties without an address


@pytest.mark.parametrize("name", ["xeon", "interleaved", "dgx", "atlas"])
def test_torch_gives_the_same_cpus(name, tmp_path, monkeypatch):
    """torch's own "exclusive" binding (torch 2.9 and newer), reading the same files through its own code.

    It leaves the nodes without a device idle; what is shared of the others is the same.
    """
    binding = pytest.importorskip("torch.numa.binding")
    machine = MACHINES[name]
    system = machine.write(tmp_path / "sys")
    real = builtins.open
    monkeypatch.setattr(
        binding, "open", lambda path, *rest: real(str(path).replace("/sys", str(system), 1), *rest), raising=False
    )
    monkeypatch.setattr(binding, "_get_allowed_cpu_indices_for_current_thread", lambda: set(machine.cpus))
    monkeypatch.setattr(binding.torch, "cuda", module(machine), raising=False)
    if hasattr(binding, "_get_gpu_count"):
        monkeypatch.setattr(binding, "_get_gpu_count", lambda: len(machine.devices))
    ours = shares(read_cores(set(machine.cpus), system), 8, device_nodes(module(machine), 8, system))
    for rank, node in enumerate(machine.devices):
        near = set(cpus_of(ours[rank])).intersection(machine.node(node))
        assert near == binding._exclusive_get_logical_cpus_to_bind_to(gpu_index=rank)


# -- generated machines ----------------------------------------------------------------------------------------


@st.composite
def machines(draw):
    """Cores with their CPUs numbered in any order, and a number of ranks."""
    sizes = draw(st.lists(st.lists(st.integers(1, 2), min_size=1, max_size=5), min_size=1, max_size=6))
    taken = iter(draw(st.permutations(range(sum(map(sum, sizes))))))
    cores = [
        Core(node, tuple(sorted(itertools.islice(taken, count))))
        for node, threads in enumerate(sizes)
        for count in threads
    ]
    return sorted(cores), draw(st.integers(1, 9))


def nodes_of(cores):
    return sorted({core.node for core in cores})


def size_of(cores, node):
    return sum(core.node == node for core in cores)


@given(machines())
def test_all_cores_are_distributed_whole(case):
    cores, ranks = case
    found = shares(cores, ranks)
    if len(cores) < ranks:
        assert found == [[]] * ranks
    else:
        assert sorted(itertools.chain(*found)) == cores
        assert all(found)


@given(machines())
def test_a_rank_has_one_node_or_whole_ones(case):
    """Of nodes of one size, as machines have them."""
    cores, ranks = case
    nodes, least = nodes_of(cores), min(size_of(cores, node) for node in nodes_of(cores))
    even = [core for node in nodes for core in [core for core in cores if core.node == node][:least]]
    for own in filter(None, shares(even, ranks)):
        if ranks >= len(nodes):
            assert len(nodes_of(own)) == 1
        elif len(nodes) % ranks == 0:
            assert own == [core for core in even if core.node in nodes_of(own)]


def test_uneven_nodes():
    """15 and 8 cores for four ranks: three of 5 and one of 8, and not two of 4 on the smaller node."""
    cores = [Core(int(cpu >= 15), (cpu,)) for cpu in range(23)]
    assert listed(shares(cores, 4)) == ["0-4", "5-9", "10-14", "15-22"]


@given(machines(), st.data())
def test_ranks_share_their_devices_node_evenly(case, data):
    cores, ranks = case
    devices = data.draw(st.lists(st.sampled_from(nodes_of(cores)), min_size=ranks, max_size=ranks))
    crowd = {node: devices.count(node) for node in devices}
    found = shares(cores, ranks, devices)
    if any(size_of(cores, node) < count for node, count in crowd.items()):
        assert found == shares(cores, ranks)  # as where nothing is known
        return
    assert sorted(itertools.chain(*found)) == cores
    for node, count in crowd.items():
        parts = [size_of(own, node) for own, home in zip(found, devices) if home == node]
        assert sum(parts) == size_of(cores, node)  # nobody else has a core of it
        assert max(parts) - min(parts) <= 1
        assert min(parts) == size_of(cores, node) // count


@given(machines(), st.data())
def test_one_device_of_unknown_node_leaves_all_as_if_unknown(case, data):
    cores, ranks = case
    devices = [data.draw(st.sampled_from(nodes_of(cores))) for _ in range(ranks)]
    devices[data.draw(st.integers(0, ranks - 1))] = data.draw(st.sampled_from([None, 99]))
    assert shares(cores, ranks, devices) == shares(cores, ranks)


@given(st.sets(st.integers(0, 300)))
def test_lists_of_cpus_are_read_as_they_are_written(tmp_path_factory, cpus):
    path = tmp_path_factory.mktemp("list") / "cpulist"
    path.write_text(affinity.ranges(cpus) + "\n")
    assert affinity._listed(path) == cpus


# -- the originals' slices -------------------------------------------------------------------------------------


def original_slice(cpus: int, rank: int) -> range:
    """The 8-device scripts: `taskset -c $((rank * (nproc / 8)))-$((rank * (nproc / 8) + nproc / 8 - 1))`."""
    each = cpus // 8
    return range(rank * each, rank * each + each)


def test_what_the_originals_slices_do():
    assert not original_slice(4, 3)  # below eight CPUs: the range 0--1, which taskset rejects
    assert [len(original_slice(20, rank)) for rank in range(8)] == [2] * 8  # of 20 CPUs four are nobody's
    assert min(range(96 * 1, 96 * 1 + 96)) >= 96  # 1-device scripts begin at nproc x device: no such CPU
    straddling = {}
    for name in ("interleaved", "kunpeng", "xeon"):
        machine = MACHINES[name]
        parts = [original_slice(len(machine.cpus), rank) for rank in range(8)]
        straddling[name] = sum(
            len({core.node for core in machine.cores if set(core.cpus) & set(part)}) > 1 for part in parts
        )
        split = [core for core in machine.cores if len({cpu // len(parts[0]) for cpu in core.cpus}) > 1]
        assert len(split) == (0 if name == "kunpeng" else len(machine.cores))  # all cores have two ranks
    assert straddling == {"interleaved": 8, "kunpeng": 0, "xeon": 0}
    container = [4, 5, 6, 7, 44, 45, 20, 60]  # nproc says 8; of the CPUs 0 to 7 four belong to others
    assert sum(set(original_slice(8, rank)) <= set(container) for rank in range(8)) == 4


@pytest.mark.skipif(shutil.which("taskset") is None, reason="there is no taskset here")
@pytest.mark.parametrize("cpus", ["0--1", "4096-4097"])
def test_taskset_rejects_them(cpus):
    assert subprocess.run(["taskset", "-c", cpus, "true"], stderr=subprocess.DEVNULL).returncode != 0


# -- real processes --------------------------------------------------------------------------------------------

PROGRAM = """
import json, os, sys, threading
import numpy
from torch_imagenet import options; from torch_imagenet.distributed import affinity
numpy.dot(numpy.ones((200, 200)), numpy.ones((200, 200)))
stop = threading.Event()
threading.Thread(target=stop.wait).start()  # is there already, as NumPy's threads are
if sys.argv[3:]:
    os.sched_setaffinity(0, {int(sys.argv[3])})  # as a scheduler that binds each task
placement = affinity.apply(int(sys.argv[1]), int(sys.argv[2]))
masks = {tuple(os.sched_getaffinity(int(task))) for task in os.listdir("/proc/self/task")}
child = os.fork()
if not child:
    os._exit(min(os.sched_getaffinity(0)))
worker = os.WEXITSTATUS(os.waitpid(child, 0)[1])
workers = options.workers(options.RunConfig.from_argv([]))
stop.set()
print(json.dumps([placement, sorted(masks), worker, workers]))
"""
linux_with_cores = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity")
    or len(read_cores(affinity.available())) < 2
    or not Path("/proc/self/task").is_dir(),
    reason="needs a Linux with at least two cores",
)


def in_process(*arguments):
    command = [sys.executable, "-c", PROGRAM, *map(str, arguments)]
    return json.loads(subprocess.run(command, cwd=str(ROOT), check=True, stdout=subprocess.PIPE, timeout=60).stdout)


@linux_with_cores
def test_a_process_is_bound_with_all_its_threads_and_children():
    cores = read_cores(affinity.available())
    for rank in range(2):
        own = share(cores, rank, 2)
        mine = cpus_of(own)
        (line, threads, cpus), masks, worker, workers = in_process(rank, 2)
        assert masks == [mine]
        assert worker == mine[0]
        assert line == affinity.describe(own, rank)
        assert (threads, cpus) == (len(own), len(mine))
        assert workers == len(mine)  # one a CPU of the rank's share


@linux_with_cores
def test_one_rank_is_left_alone():
    allowed = sorted(affinity.available())
    (line, threads, cpus), masks, _, _ = in_process(0, 1)
    assert line is None
    assert masks == [allowed]
    assert (threads, cpus) == (len(read_cores(set(allowed))), len(allowed))


@linux_with_cores
def test_fewer_cores_than_ranks_are_not_bound():
    allowed = sorted(affinity.available())
    cores = len(read_cores(set(allowed)))
    (line, threads, cpus), masks, _, _ = in_process(0, cores + 1)
    assert line == f"{cores} cores for {cores + 1} ranks: none is bound to CPUs"
    assert masks == [allowed]
    assert (threads, cpus) == (1, max(1, len(allowed) // (cores + 1)))


@linux_with_cores
def test_what_a_scheduler_has_bound_stays_so():
    cpu = min(affinity.available())
    (line, threads, cpus), masks, _, _ = in_process(1, 2, cpu)
    assert line.endswith("for rank 1, as it was started")
    assert line.startswith(f"CPUs {cpu} (NUMA node ")
    assert [cpu] in masks
    assert (threads, cpus) == (1, 1)


def test_a_system_that_binds_no_process(monkeypatch):
    for name in ("sched_setaffinity", "sched_getaffinity"):
        monkeypatch.delattr(os, name, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert affinity.apply(0, 2, system=Path("/nowhere")) == (None, 4, 4)
