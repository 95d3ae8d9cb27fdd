"""The duration of a data-parallel training step in closed form, in seconds and bytes.

Gradients are all-reduced in buckets, each as soon as the backward passes of all devices have filled it. Most of the
communication therefore overlaps with the rest of the backward pass (Li et al., PyTorch Distributed, VLDB 2020). An
all-reduce costs latency and bandwidth (the alpha-beta model of Thakur et al., 2005): a ring inside a node, a ring or a
tree between nodes. A step ends with its slowest device. The time of a device is the mean times 1 - s + s E, where E is
exponential with mean 1 (the shifted exponential of Lee et al., 2018); the mean of the maximum of E over D devices is
H_D = 1 + 1/2 + ... + 1/D. Images arrive as fast as cores decode and storage reads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Dict, NamedTuple, Optional, Tuple

from benchmarks.scaling.cluster import Cluster

NEGLIGIBLE = 0.05  # share of a step below which nothing counts as the limit


class Bucket(NamedTuple):
    """Gradients that are reduced together: bytes, and the share of the backward pass after which all are ready."""

    size: int
    ready: float


@dataclass(frozen=True)
class Workload:
    """A network on a single device. The macs are multiply-adds of the forward pass, per image."""

    batch_size: int  # images per step, to which `step_seconds` belongs
    step_seconds: float
    buckets: Tuple[Bucket, ...] = ()  # in the order of the backward pass
    statistics_bytes: int = 0  # all-reduced after every backward pass: running statistics, loss and counts
    parameters: int = 0
    macs: int = 0

    def gradient_bytes(self) -> int:
        """The bytes of all gradients."""
        return sum(bucket.size for bucket in self.buckets)


@dataclass(frozen=True)
class Step:
    """A step of `devices` devices with `batch_size` images each, in seconds."""

    devices: int
    batch_size: int
    ideal: float  # with a computation proportional to the batch, and without waiting
    lost: Dict[str, float]  # what each cause adds: small batch, slowest device, exchange, and decoding or storage

    @property
    def seconds(self) -> float:
        return self.ideal + sum(self.lost.values())

    @property
    def global_batch(self) -> int:
        return self.devices * self.batch_size

    @property
    def efficiency(self) -> float:
        return self.ideal / self.seconds

    @property
    def limit(self) -> str:
        """The cause of the largest part of the lost time."""
        most = max(self.lost, key=lambda cause: self.lost[cause])
        return most if self.lost[most] > NEGLIGIBLE * self.seconds else "device"


def all_reduce_seconds(size: float, devices: int, cluster: Cluster) -> float:
    """All-reduce `size` bytes over all devices: inside each node, then between nodes."""
    local = min(devices, cluster.devices_per_node)
    nodes = -(-devices // local)
    inside = 2 * (local - 1) * (cluster.node_us * 1e-6 + size / local / (cluster.node_gb_s * 1e9))
    if nodes == 1:
        return inside
    latency, rate = cluster.network_us * 1e-6, cluster.network_gbit * 1e9 / 8 * cluster.network_share
    ring = 2 * (nodes - 1) * (latency + size / nodes / rate)
    tree = 2 * math.ceil(math.log2(nodes)) * latency + 2 * size / rate
    return inside + min(ring, tree)


def step(workload: Workload, cluster: Cluster, devices: int, global_batch: Optional[int] = None) -> Step:
    """The mean step. The batch per device is the workload's, or its share of `global_batch` and at least 1."""
    batch = workload.batch_size if global_batch is None else max(1, global_batch // devices)
    ideal = workload.step_seconds * batch / workload.batch_size
    compute = cluster.fixed_share * workload.step_seconds + (1 - cluster.fixed_share) * ideal
    slowest = compute * (1 + cluster.spread * sum(1 / number for number in range(2, devices + 1)))

    reduced = 0.0  # when the last bucket is reduced: one after another, none before it is ready
    for bucket in workload.buckets:
        ready = slowest * (cluster.forward_share + (1 - cluster.forward_share) * bucket.ready)
        reduced = max(reduced, ready) + all_reduce_seconds(bucket.size, devices, cluster)
    end = max(slowest, reduced) + all_reduce_seconds(workload.statistics_bytes, devices, cluster)

    # Per image: the storage of a node is shared by its devices, and a core waits for what it reads.
    storage = cluster.image_kb * 1e-6 / cluster.shard_gb_s * min(devices, cluster.devices_per_node)
    decoding = (storage + 1 / cluster.decode_rate) / cluster.cores_per_device
    lost = {"slowest device": slowest - compute, "exchange": end - slowest}
    lost["decoding" if decoding >= storage else "storage"] = max(0.0, batch * max(decoding, storage) - end)
    return Step(devices, batch, ideal, {**lost, "small batch": compute - ideal})
