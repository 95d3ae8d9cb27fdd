"""A data-parallel training played through event by event: every batch decoded, every bucket exchanged, seeded.

Each device has as many workers as cores, as the input pipeline has: worker w makes the batches w, w + W, w + 2 W, ...,
whole ones, and works ahead by two (torch's `prefetch_factor`); what it reads comes through its part of the node's
storage, one batch after another. A step begins on a device when its batch is there and the step before has ended
everywhere; a bucket is exchanged when all devices have filled it and the one before is through. The time of each event
is the latest of those that it waits for, computed for all devices at once with NumPy: no event is approximated.
"""

from __future__ import annotations

import math
from typing import List, NamedTuple

import numpy as np

from benchmarks.scaling.model import Cluster, Step, Workload, all_reduce_seconds, compute_seconds, image_seconds

AHEAD = 2  # batches a worker


class Noise(NamedTuple):
    """Multiples of the mean time, [steps, devices]: of each device's step, and of the decoding of its batch."""

    compute: np.ndarray
    decoding: np.ndarray


def noise(steps: int, devices: int, spread: float, seed: int) -> Noise:
    """Shifted exponentials of mean 1, of which `spread` varies."""
    random = np.random.RandomState(seed)
    draws = random.standard_exponential((2, steps, devices))
    return Noise(*(1 - spread + spread * draws))


def workers(cluster: Cluster) -> int:
    """Processes that decode for a device; one is as good as many where decoding costs nothing."""
    return 1 if math.isinf(cluster.cores_per_device) else int(cluster.cores_per_device)


def play(workload: Workload, cluster: Cluster, devices: int, batch_size: float, drawn: Noise) -> List[Step]:
    """The steps one by one, from the first, for which nothing is there yet."""
    count = workers(cluster)
    compute = compute_seconds(workload, cluster, batch_size)
    decoding = batch_size / cluster.decode_rate
    reading = batch_size * image_seconds(cluster, devices)[1]
    forward = cluster.forward_share
    ready = np.array([forward + (1 - forward) * bucket.ready for bucket in workload.buckets])
    costs = [all_reduce_seconds(bucket.size, devices, cluster) for bucket in workload.buckets]
    statistics = all_reduce_seconds(workload.statistics_bytes, devices, cluster)

    made = np.zeros((count, devices))  # when each worker has made its last batch
    taken = np.zeros((AHEAD * count, devices))  # when the batch was taken whose place the next one takes
    read = np.zeros(devices)
    end, steps = 0.0, []
    for number, (slow, slow_decoding) in enumerate(zip(drawn.compute, drawn.decoding)):
        worker, place = number % count, number % len(taken)
        read = np.maximum(read, np.maximum(made[worker], taken[place])) + reading
        made[worker] = read + decoding * slow_decoding
        begin = np.maximum(made[worker], end)
        taken[place] = begin
        own = compute * slow
        computed = (begin + own).max()
        arrived = 0.0
        for cost, share in zip(costs, ready):
            arrived = max(arrived, (begin + own * share).max()) + cost
        latest = begin.max()
        over = max(computed, arrived) + statistics
        mean = float(own.mean())
        steps.append(Step(mean, computed - latest - mean, over - computed, latest - end))
        end = over
    return steps


def simulate(workload: Workload, cluster: Cluster, devices: int, batch_size: float, steps: int, seed: int) -> Step:
    """The mean step, without the first ones, in which the queues fill."""
    count = workers(cluster)
    first = 2 * AHEAD * count
    whole = -(-steps // count) * count  # workers finish in rounds
    drawn = noise(first + whole, devices, cluster.spread, seed)
    timed = play(workload, cluster, devices, batch_size, drawn)[first:]
    parts = np.array([[one.compute, one.slowest, one.exchange, one.images] for one in timed]).mean(axis=0)
    return Step(*parts.tolist())
