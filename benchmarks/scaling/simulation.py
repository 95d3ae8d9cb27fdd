"""A discrete-event simulation of data-parallel training: every batch is decoded and every bucket reduced.

Each device has as many workers as cores. As in the input pipeline, worker w of W makes the batches w, w + W, w + 2 W
and so on, two ahead (torch's `prefetch_factor`), and reads them one after another through its share of the node's
storage. A step begins on a device when its batch is ready and the previous step has ended on all devices. A bucket is
reduced when all devices have filled it and the previous one is reduced. The time of an event is the latest of those it
waits for, computed with NumPy for all devices at once; nothing is approximated.
"""

from __future__ import annotations

import math
from typing import List, NamedTuple

import numpy as np

from benchmarks.scaling.model import Cluster, Step, Workload, all_reduce_seconds, compute_seconds, image_seconds

AHEAD = 2  # batches per worker


class Noise(NamedTuple):
    """Multiples of the mean time, [steps, devices], for computing a step and for decoding its batch."""

    compute: np.ndarray
    decoding: np.ndarray


def noise(steps: int, devices: int, spread: float, seed: int) -> Noise:
    """Shifted exponentials with mean 1 and standard deviation `spread`."""
    random = np.random.RandomState(seed)
    draws = random.standard_exponential((2, steps, devices))
    return Noise(*(1 - spread + spread * draws))


def workers(cluster: Cluster) -> int:
    """The number of processes that decode for a device; one if decoding costs no time."""
    return 1 if math.isinf(cluster.cores_per_device) else int(cluster.cores_per_device)


def play(workload: Workload, cluster: Cluster, devices: int, batch_size: float, drawn: Noise) -> List[Step]:
    """Simulate as many steps as there is noise, starting with empty queues."""
    count = workers(cluster)
    compute = compute_seconds(workload, cluster, batch_size)
    decoding = batch_size / cluster.decode_rate
    reading = batch_size * image_seconds(cluster, devices)[1]
    forward = cluster.forward_share
    ready = np.array([forward + (1 - forward) * bucket.ready for bucket in workload.buckets])
    costs = [all_reduce_seconds(bucket.size, devices, cluster) for bucket in workload.buckets]
    statistics = all_reduce_seconds(workload.statistics_bytes, devices, cluster)

    decoded = np.zeros((count, devices))  # when each worker has finished its last batch
    taken = np.zeros((AHEAD * count, devices))  # when each slot of the queue was last emptied
    read = np.zeros(devices)
    end, steps = 0.0, []
    for number, (slow, slow_decoding) in enumerate(zip(drawn.compute, drawn.decoding)):
        worker, slot = number % count, number % len(taken)
        read = np.maximum(read, np.maximum(decoded[worker], taken[slot])) + reading
        decoded[worker] = read + decoding * slow_decoding
        begin = np.maximum(decoded[worker], end)
        taken[slot] = begin
        own = compute * slow
        computed = (begin + own).max()
        reduced = 0.0
        for cost, share in zip(costs, ready):
            reduced = max(reduced, (begin + own * share).max()) + cost
        latest = begin.max()
        finished = max(computed, reduced) + statistics
        mean = float(own.mean())
        steps.append(Step(mean, computed - latest - mean, finished - computed, latest - end))
        end = finished
    return steps


def simulate(workload: Workload, cluster: Cluster, devices: int, batch_size: float, steps: int, seed: int) -> Step:
    """The mean step, without the first steps, in which the queues fill."""
    count = workers(cluster)
    first = 2 * AHEAD * count
    timed = -(-steps // count) * count  # a multiple of the workers, who finish in turn
    drawn = noise(first + timed, devices, cluster.spread, seed)
    played = play(workload, cluster, devices, batch_size, drawn)[first:]
    parts = np.array([[one.compute, one.slowest, one.exchange, one.images] for one in played]).mean(axis=0)
    return Step(*parts.tolist())
