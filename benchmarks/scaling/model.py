"""The duration of a data-parallel training step in closed form, in seconds and bytes.

Gradients are all-reduced in buckets, each as soon as the backward passes of all devices have filled it. Most of the
communication therefore overlaps with the rest of the backward pass (Li et al., PyTorch Distributed, VLDB 2020). An
all-reduce costs latency and bandwidth (the alpha-beta model of Thakur et al., 2005): a ring inside a node, a ring or a
tree between nodes. A step ends with its slowest device. The time of a device is the mean times 1 - s + s E, where E is
exponential with mean 1 (the shifted exponential of Lee et al., 2018); the mean of the maximum of E over D devices is
H_D = 1 + 1/2 + ... + 1/D. Images arrive as fast as cores decode and storage reads. `simulation` has the same model
event by event.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import List, NamedTuple, Sequence, Tuple

MIB = 2**20
FIRST_BUCKET, BUCKET = MIB, 25 * MIB  # bytes, as in torch's DistributedDataParallel


class Gradient(NamedTuple):
    """The gradient of one parameter: bytes, dtype, and the share of the backward pass after which it is ready."""

    size: int
    dtype: str
    ready: float


class Bucket(NamedTuple):
    """Gradients that are reduced together: bytes, and the share of the backward pass after which all are ready."""

    size: int
    ready: float


@dataclass(frozen=True)
class Workload:
    """A network on a single device."""

    network: str
    batch_size: int  # images per device and step, to which `step_seconds` belongs
    step_seconds: float
    buckets: Tuple[Bucket, ...] = ()
    statistics_bytes: int = 0  # all-reduced after every backward pass: running statistics, loss and counts
    parameters: int = 0
    train_images: int = 1281167
    eval_images: int = 50000


@dataclass(frozen=True)
class Cluster:
    """The machines. Each field is an option of the command line; the defaults cost no time."""

    devices_per_node: int = 8
    node_gb_s: float = math.inf  # between two devices of a node, each direction
    node_us: float = 0.0  # latency of a message inside a node
    network_gbit: float = math.inf  # of a node, shared by its devices
    network_us: float = 0.0
    network_share: float = 1.0  # part of that rate which an all-reduce reaches
    cores_per_device: float = math.inf  # an integer: one worker decodes on each core
    decode_rate: float = math.inf  # images per second and core, from file to cropped uint8
    shard_gb_s: float = math.inf  # read rate of a node
    image_kb: float = 115.4
    spread: float = 0.0  # s above: the part of a step's time that varies
    forward_share: float = 1 / 3  # the part of a step before the backward pass
    fixed_share: float = 0.1  # the part of a step, at the workload's batch, that does not depend on the batch
    write_gb_s: float = math.inf  # write rate of a checkpoint

    def nodes(self, devices: int) -> Tuple[int, int]:
        """The number of nodes, and of devices on each."""
        local = min(devices, self.devices_per_node)
        return -(-devices // local), local


@dataclass(frozen=True)
class Step:
    """The parts of a step in seconds; their sum is `seconds`."""

    compute: float
    slowest: float  # waiting for the slowest device
    exchange: float  # communication that does not overlap with the backward pass
    images: float  # waiting for images

    @property
    def seconds(self) -> float:
        return self.compute + self.slowest + self.exchange + self.images


def buckets(gradients: Sequence[Gradient], first: int = FIRST_BUCKET, limit: int = BUCKET) -> Tuple[Bucket, ...]:
    """Distribute gradients, in the order of the backward pass, over buckets as torch does: one dtype per bucket.

    A bucket is complete with the gradient that makes it reach `limit` bytes, or `first` bytes for the first bucket of a
    dtype.
    """
    complete: List[Bucket] = []
    filling = {dtype: Bucket(0, 0.0) for dtype in dict.fromkeys(gradient.dtype for gradient in gradients)}
    limits = dict.fromkeys(filling, first)
    for size, dtype, ready in gradients:
        bucket = Bucket(filling[dtype].size + size, max(filling[dtype].ready, ready))
        if bucket.size >= limits[dtype]:
            complete.append(bucket)
            bucket, limits[dtype] = Bucket(0, 0.0), limit
        filling[dtype] = bucket
    complete += [bucket for bucket in filling.values() if bucket.size]
    return tuple(sorted(complete, key=lambda bucket: bucket.ready))


def all_reduce_seconds(size: float, devices: int, cluster: Cluster) -> float:
    """All-reduce `size` bytes over all devices: inside each node, then between nodes."""
    nodes, local = cluster.nodes(devices)
    inside = 2 * (local - 1) * (cluster.node_us * 1e-6 + size / local / (cluster.node_gb_s * 1e9))
    if nodes == 1:
        return inside
    latency, rate = cluster.network_us * 1e-6, cluster.network_gbit * 1e9 / 8 * cluster.network_share
    ring = 2 * (nodes - 1) * (latency + size / nodes / rate)
    tree = 2 * math.ceil(math.log2(nodes)) * latency + 2 * size / rate
    return inside + min(ring, tree)


def compute_seconds(workload: Workload, cluster: Cluster, batch_size: float) -> float:
    """Forward and backward pass of a batch on one device: a fixed part and one proportional to the batch."""
    share = cluster.fixed_share + (1 - cluster.fixed_share) * batch_size / workload.batch_size
    return workload.step_seconds * share


def image_seconds(cluster: Cluster, devices: int) -> Tuple[float, float]:
    """Seconds per image of the cores of a device, and of its share of the storage of its node.

    The time of the cores includes reading, for which they wait.
    """
    _, local = cluster.nodes(devices)
    reading = cluster.image_kb * 1e-6 / cluster.shard_gb_s * local
    return (reading + 1 / cluster.decode_rate) / cluster.cores_per_device, reading


def slowest(devices: int, spread: float) -> float:
    """The mean time of the slowest device, as a multiple of the mean time."""
    return 1 + spread * (sum(1 / number for number in range(1, devices + 1)) - 1)


def exchange_ends(ready: Sequence[float], costs: Sequence[float]) -> float:
    """When the last bucket is reduced: they are reduced one after another, none before it is ready."""
    end = 0.0
    for begin, cost in zip(ready, costs):
        end = max(end, begin) + cost
    return end


def step(workload: Workload, cluster: Cluster, devices: int, batch_size: float) -> Step:
    """A step in closed form, with the mean of the slowest device's time in every step."""
    compute = compute_seconds(workload, cluster, batch_size)
    longest = compute * slowest(devices, cluster.spread)
    forward = cluster.forward_share
    ready = [longest * (forward + (1 - forward) * bucket.ready) for bucket in workload.buckets]
    costs = [all_reduce_seconds(bucket.size, devices, cluster) for bucket in workload.buckets]
    end = max(longest, exchange_ends(ready, costs))
    end += all_reduce_seconds(workload.statistics_bytes, devices, cluster)
    images = batch_size * max(image_seconds(cluster, devices))
    return Step(compute, longest - compute, end - longest, max(0.0, images - end))


def epoch_seconds(
    workload: Workload, cluster: Cluster, devices: int, batch_size: int, step_seconds: float
) -> Tuple[float, float, float]:
    """Seconds of training, evaluation and checkpoint in one epoch.

    Each device evaluates its share. One rank writes weights and momentum, 8 bytes per parameter, while all wait.
    """
    training = workload.train_images // (batch_size * devices) * step_seconds
    forward = compute_seconds(workload, cluster, batch_size) * cluster.forward_share / batch_size
    image = max(forward, *image_seconds(cluster, devices))
    evaluation = math.ceil(workload.eval_images / devices) * image
    return training, evaluation, 8 * workload.parameters / (cluster.write_gb_s * 1e9)
