"""How long a data-parallel training step takes on many devices: the closed form. Plain Python, seconds and bytes.

A device computes forward and backward; its gradients leave in buckets, each as soon as the backward passes of all
devices have filled it, so that most of the exchange hides behind the rest of the backward pass (Li et al., PyTorch
Distributed, VLDB 2020). An exchange costs latency and bandwidth (the alpha-beta model of Thakur et al., 2005): a ring
inside a node, a ring or a tree between nodes. The slowest device decides: a step's time is its mean times 1 - s + s E,
E exponential with mean 1 (the shifted exponential of Lee et al., 2018), whose maximum over D devices is in the mean
H_D = 1 + 1/2 + ... + 1/D. Images come as fast as cores decode and storage reads. `simulation` plays the same
through event by event.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

MIB = 2**20
FIRST_BUCKET, BUCKET = MIB, 25 * MIB  # bytes: torch's DistributedDataParallel


class Gradient(NamedTuple):
    """Of one parameter: bytes, number type, and the share of the backward pass after which it is there."""

    size: int
    dtype: str
    ready: float


class Bucket(NamedTuple):
    """Gradients that travel together: bytes, and the share of the backward pass after which all of them are there."""

    size: int
    ready: float


@dataclass(frozen=True)
class Workload:
    """One network on one device, by itself."""

    network: str
    batch_size: int  # images a device and step, for which `step_seconds` holds
    step_seconds: float
    buckets: Tuple[Bucket, ...] = ()
    statistics_bytes: int = 0  # exchanged after every backward pass: running statistics, loss and counts
    parameters: int = 0
    train_images: int = 1281167
    eval_images: int = 50000


@dataclass(frozen=True)
class Cluster:
    """The machines. Each field is an input of the command line; infinite rates and no latency cost nothing."""

    devices_per_node: int = 8
    node_gb_s: float = math.inf  # between two devices of a node, each direction
    node_us: float = 0.0  # latency of one message there
    network_gbit: float = math.inf  # of a node, for all its devices together
    network_us: float = 0.0
    network_share: float = 1.0  # of the network's rate that an exchange reaches
    cores_per_device: float = math.inf  # whole ones: as many workers decode
    decode_rate: float = math.inf  # images a second and core, from file to cropped uint8
    shard_gb_s: float = math.inf  # of a node, from where the images lie
    image_kb: float = 115.4
    spread: float = 0.0  # s above: of the time of a step, the part that varies
    forward_share: float = 1 / 3  # of the step, before the first gradient can be there
    fixed_share: float = 0.1  # of the step, at the workload's batch, that no smaller batch makes shorter
    write_gb_s: float = math.inf  # of a checkpoint, by the one rank that writes it

    def nodes(self, devices: int) -> Tuple[int, int]:
        """Nodes, and devices on each."""
        local = min(devices, self.devices_per_node)
        return -(-devices // local), local


@dataclass(frozen=True)
class Step:
    """Where the seconds of a step go; together they are `seconds`."""

    compute: float
    slowest: float  # waiting for the slowest device
    exchange: float  # of gradients and statistics, as far as the backward pass does not hide it
    images: float  # waiting for images

    @property
    def seconds(self) -> float:
        return self.compute + self.slowest + self.exchange + self.images


def buckets(gradients: Sequence[Gradient], first: int = FIRST_BUCKET, limit: int = BUCKET) -> Tuple[Bucket, ...]:
    """The buckets of gradients in the order in which they arrive, as torch fills them: one kind of number to a bucket.

    A bucket is closed by the gradient with which it reaches its limit; `first` is that of each kind's first one.
    """
    done: List[Bucket] = []
    open_ones = {dtype: Bucket(0, 0.0) for dtype in dict.fromkeys(gradient.dtype for gradient in gradients)}
    limits = dict.fromkeys(open_ones, first)
    for size, dtype, ready in gradients:
        grown = Bucket(open_ones[dtype].size + size, max(open_ones[dtype].ready, ready))
        if grown.size >= limits[dtype]:
            done.append(grown)
            grown, limits[dtype] = Bucket(0, 0.0), limit
        open_ones[dtype] = grown
    done += [bucket for bucket in open_ones.values() if bucket.size]
    return tuple(sorted(done, key=lambda bucket: bucket.ready))


def all_reduce_seconds(size: float, devices: int, cluster: Cluster) -> float:
    """Sum `size` bytes over all devices: inside each node, then between nodes, whose network its devices share."""
    nodes, local = cluster.nodes(devices)
    inside = 2 * (local - 1) * (cluster.node_us * 1e-6 + size / local / (cluster.node_gb_s * 1e9))
    if nodes == 1:
        return inside
    latency, rate = cluster.network_us * 1e-6, cluster.network_gbit * 1e9 / 8 * cluster.network_share
    ring = 2 * (nodes - 1) * (latency + size / nodes / rate)
    tree = 2 * math.ceil(math.log2(nodes)) * latency + 2 * size / rate
    return inside + min(ring, tree)


def compute_seconds(workload: Workload, cluster: Cluster, batch_size: float) -> float:
    """Forward and backward of that many images on one device: a fixed part, and one that grows with the batch."""
    share = cluster.fixed_share + (1 - cluster.fixed_share) * batch_size / workload.batch_size
    return workload.step_seconds * share


def image_seconds(cluster: Cluster, devices: int) -> Tuple[float, float]:
    """What an image takes a device's cores, and what it takes the device's part of its node's storage.

    A core that decodes has waited for what it reads.
    """
    _, local = cluster.nodes(devices)
    reading = cluster.image_kb * 1e-6 / cluster.shard_gb_s * local
    return (reading + 1 / cluster.decode_rate) / cluster.cores_per_device, reading


def slowest(devices: int, spread: float) -> float:
    """The slowest of that many devices' steps in the mean, as a multiple of the mean step."""
    return 1 + spread * (sum(1 / number for number in range(1, devices + 1)) - 1)


def exchange_ends(ready: Sequence[float], costs: Sequence[float]) -> float:
    """When the last bucket has arrived: one at a time, none before it is ready."""
    end = 0.0
    for begin, cost in zip(ready, costs):
        end = max(end, begin) + cost
    return end


def step(workload: Workload, cluster: Cluster, devices: int, batch_size: float) -> Step:
    """The closed form, in which the slowest device is always slow by the mean of the maximum."""
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
    """Training, evaluation and checkpoint of one epoch. Each device evaluates its share; one rank writes, all wait.

    A checkpoint holds weights and momentum, 8 bytes a parameter.
    """
    training = workload.train_images // (batch_size * devices) * step_seconds
    forward = compute_seconds(workload, cluster, batch_size) * cluster.forward_share / batch_size
    image = max(forward, *image_seconds(cluster, devices))
    evaluation = math.ceil(workload.eval_images / devices) * image
    return training, evaluation, 8 * workload.parameters / (cluster.write_gb_s * 1e9)


def without_limits(cluster: Cluster) -> Cluster:
    """The same machines, with exchange, images and files that cost nothing and devices that are all alike."""
    names = ("node_gb_s", "network_gbit", "cores_per_device", "decode_rate", "shard_gb_s", "write_gb_s")
    limits: Dict[str, Any] = dict.fromkeys(names, math.inf)
    return dataclasses.replace(cluster, node_us=0.0, network_us=0.0, spread=0.0, **limits)
