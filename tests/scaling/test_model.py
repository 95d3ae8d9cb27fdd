"""The scaling model: cases computed by hand, limits, torch's own buckets, and events one by one."""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

import torch.distributed as dist  # noqa: E402

from benchmarks.scaling import __main__  # noqa: E402
from benchmarks.scaling.model import (  # noqa: E402
    MIB,
    Bucket,
    Cluster,
    Gradient,
    Workload,
    all_reduce_seconds,
    buckets,
    compute_seconds,
    epoch_seconds,
    exchange_ends,
    slowest,
    step,
)
from benchmarks.scaling.networks import DOCUMENTED, RATES, count, documented_rate, workload  # noqa: E402
from benchmarks.scaling.simulation import Noise, noise, play, simulate  # noqa: E402
from torch_imagenet.networks import create  # noqa: E402

SMALL = Workload("small", 32, 0.1, (Bucket(25 * MIB, 0.4), Bucket(5 * MIB, 1.0)), 4096, 10**6)
REAL = Cluster(
    8,
    node_gb_s=30,
    node_us=10,
    network_gbit=100,
    network_us=20,
    network_share=0.85,
    cores_per_device=3,
    decode_rate=400,
    shard_gb_s=2,
    spread=0.02,
    write_gb_s=1,
)


def without_limits(cluster):
    """The cluster with free communication, images and files, and with devices of equal speed."""
    names = ("node_gb_s", "network_gbit", "cores_per_device", "decode_rate", "shard_gb_s", "write_gb_s")
    return dataclasses.replace(cluster, node_us=0.0, network_us=0.0, spread=0.0, **dict.fromkeys(names, math.inf))


@st.composite
def cases(draw):
    """A workload, a cluster and a number of devices."""
    rates = st.floats(0.1, 100)
    sizes = draw(st.lists(st.integers(1, 40 * MIB), max_size=4))
    ready = sorted(draw(st.lists(st.floats(0, 1), min_size=len(sizes), max_size=len(sizes))))
    work = Workload(
        "any",
        draw(st.integers(1, 64)),
        draw(st.floats(1e-3, 1)),
        tuple(map(Bucket, sizes, ready)),
        draw(st.integers(0, MIB)),
    )
    machines = Cluster(
        draw(st.integers(1, 4)),
        draw(rates),
        draw(rates),
        draw(rates),
        draw(rates),
        0.9,
        draw(st.integers(1, 4)),
        draw(st.floats(10, 5000)),
        draw(rates),
        spread=draw(st.sampled_from([0.0, 0.05])),
    )
    return work, machines, draw(st.integers(1, 9))


# -- exchange --------------------------------------------------------------------------------------------------


def test_an_exchange_by_hand():
    assert all_reduce_seconds(1e6, 1, REAL) == 0
    inside = 2 * 7 * (10e-6 + 125000 / 30e9)
    assert all_reduce_seconds(1e6, 8, REAL) == pytest.approx(inside)
    assert all_reduce_seconds(1e6, 2, REAL) == pytest.approx(2 * (10e-6 + 500000 / 30e9))
    rate = 100e9 / 8 * 0.85
    assert all_reduce_seconds(1e6, 16, REAL) == pytest.approx(inside + 2 * (20e-6 + 500000 / rate))  # ring of two
    tree = 2 * 7 * 20e-6 + 2 * 1e6 / rate
    assert all_reduce_seconds(1e6, 1024, REAL) == pytest.approx(inside + tree)  # a ring: 254 messages
    large = 1e12
    assert all_reduce_seconds(large, 1024, dataclasses.replace(REAL, node_gb_s=math.inf)) == pytest.approx(
        2 * 127 / 128 * large / rate, rel=1e-3
    )


@given(st.floats(1, 1e9), st.integers(1, 2048))
def test_an_exchange_takes_no_less_than_the_bytes_that_must_pass(size, devices):
    nodes, local = REAL.nodes(devices)
    found = all_reduce_seconds(size, devices, REAL)
    assert found >= 2 * (local - 1) / local * size / 30e9 + 2 * (nodes - 1) / nodes * size / (100e9 / 8)
    assert found <= all_reduce_seconds(2 * size, devices, REAL) <= 2 * found or devices == 1


def test_buckets_travel_one_after_another():
    assert exchange_ends([0.0, 1.0, 1.5], [2.0, 0.1, 0.1]) == pytest.approx(2.2)  # the second waits for the first
    assert exchange_ends([0.0, 1.0, 3.0], [0.5, 0.1, 0.2]) == pytest.approx(3.2)
    assert exchange_ends([], []) == 0


def test_a_step_by_hand():
    """0.1 s: forward until 1/30; the first bucket is full at 0.06 and takes 5 ms; only the last one's 1 ms is seen."""
    cluster = Cluster(8, node_gb_s=2 * 7 / 8 * 25 * MIB / 0.005 / 1e9)
    found = step(dataclasses.replace(SMALL, statistics_bytes=0), cluster, 8, 32)
    assert (found.compute, found.slowest, found.images) == (pytest.approx(0.1), pytest.approx(0), 0)
    assert found.exchange == pytest.approx(0.001)
    slower = dataclasses.replace(cluster, node_gb_s=cluster.node_gb_s / 10)  # 50 ms, until 0.11, then 10 ms
    assert step(dataclasses.replace(SMALL, statistics_bytes=0), slower, 8, 32).exchange == pytest.approx(0.02)


# -- limits ----------------------------------------------------------------------------------------------------


@given(cases())
def test_one_device_exchanges_nothing(case):
    work, machines, _ = case
    found = step(work, machines, 1, work.batch_size)
    assert found.exchange == pytest.approx(0, abs=1e-12)
    assert found.compute + found.slowest == pytest.approx(work.step_seconds)


@given(cases())
def test_without_limits_everything_is_linear(case):
    work, machines, devices = case
    row = __main__.row(work, without_limits(machines), devices)
    assert row.efficiency == pytest.approx(1)
    assert row.images_per_second == pytest.approx(devices * work.batch_size / work.step_seconds)
    assert row.limit == "device"


@pytest.mark.parametrize("devices", [1, 8, 64])
def test_images_come_as_fast_as_they_are_decoded(devices):
    machines = dataclasses.replace(REAL, decode_rate=50, spread=0)
    row = __main__.row(SMALL, dataclasses.replace(machines, shard_gb_s=math.inf), devices)
    assert row.images_per_second == pytest.approx(devices * 3 * 50)
    assert row.limit == "decoding"
    row = __main__.row(SMALL, machines, devices)  # a core waits for what it reads, too
    reading = 115.4e3 * min(devices, 8) / 2e9
    assert row.images_per_second == pytest.approx(devices * 3 / (1 / 50 + reading))
    assert row.limit == "decoding"


@pytest.mark.parametrize("devices", [8, 64])
def test_images_come_as_fast_as_they_are_read(devices):
    row = __main__.row(SMALL, dataclasses.replace(REAL, shard_gb_s=0.1, spread=0, decode_rate=math.inf), devices)
    assert row.images_per_second == pytest.approx(devices / 8 * 0.1e9 / 115.4e3)
    assert row.limit == "storage"


def test_a_smaller_batch_keeps_its_fixed_part():
    assert compute_seconds(SMALL, REAL, 32) == pytest.approx(0.1)
    assert compute_seconds(SMALL, REAL, 0) == pytest.approx(0.01)
    row = __main__.row(SMALL, without_limits(REAL), 1024, global_batch=4096)
    assert (row.batch_size, row.limit) == (4, "small batch")
    assert row.step.seconds == pytest.approx(0.01 + 0.09 / 8)


def test_an_epoch_by_hand():
    training, evaluation, checkpoint = epoch_seconds(
        dataclasses.replace(SMALL, train_images=1000, eval_images=100), REAL, 8, 32, 0.2
    )
    assert training == pytest.approx(3 * 0.2)  # 1,000 images are three steps of 256
    assert evaluation == pytest.approx(13 * 0.1 / 3 / 32)
    assert checkpoint == pytest.approx(8e6 / 1e9)


# -- simulation ------------------------------------------------------------------------------------------------


@given(cases())
@settings(max_examples=60)
def test_devices_that_are_alike_take_what_the_closed_form_says(case):
    work, machines, devices = case
    machines = dataclasses.replace(machines, spread=0.0)
    expected = step(work, machines, devices, work.batch_size).seconds
    assert simulate(work, machines, devices, work.batch_size, 8, 0).seconds == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("devices", [1, 8, 64])
def test_the_slowest_device_is_so_slow_in_the_mean(devices):
    """H_D: the mean of the largest of D exponentials; 4,000 steps leave an error below 0.002 at a spread of 0.1."""
    found = simulate(Workload("bare", 32, 1.0), Cluster(spread=0.1), devices, 32, 4000, seed=1)
    harmonic = sum(1 / number for number in range(1, devices + 1))
    assert slowest(devices, 0.1) == pytest.approx(0.9 + 0.1 * harmonic)
    assert found.seconds == pytest.approx(0.9 + 0.1 * harmonic, abs=0.01)


def test_the_same_seed_gives_the_same_steps():
    first, again, other = (simulate(SMALL, REAL, 16, 32, 20, seed) for seed in (3, 3, 4))
    assert first == again != other


def test_a_worker_is_two_batches_ahead():
    """Steps of 1 s. Batch 5 takes 10 s instead of none; begun when batch 3 is taken, at 3 s, it is 8 s late."""
    decoding = np.zeros((7, 1))
    decoding[5] = 10 / 32
    work, machines = Workload("bare", 32, 1.0), Cluster(cores_per_device=1, decode_rate=1.0)
    waits = [one.images for one in play(work, machines, 1, 32, Noise(np.ones((7, 1)), decoding))]
    assert waits == pytest.approx([0, 0, 0, 0, 0, 8, 0])


def events(work, machines, devices, drawn):
    """The ends of all steps, from a queue of events: a device, a worker, a bucket at a time."""
    workers, steps = int(machines.cores_per_device), len(drawn.compute)
    _, local = machines.nodes(devices)
    reading = work.batch_size * machines.image_kb * 1e3 * local / (machines.shard_gb_s * 1e9)
    queue, order = [], itertools.count()
    made = [set() for _ in range(devices)]
    asked = [0] * devices
    next_read = [0] * devices
    reader_free = [True] * devices
    idle = [[True] * workers for _ in range(devices)]
    current, filled, started, ends = [0] * devices, {}, {}, []
    line = {"busy": False, "next": 0}

    def at(time, action, *arguments):
        heapq.heappush(queue, (time, next(order), action, arguments))

    def read(now, device):
        batch = next_read[device]
        if batch < min(steps, asked[device]) and reader_free[device] and idle[device][batch % workers]:
            reader_free[device] = idle[device][batch % workers] = False
            next_read[device] += 1
            at(now + reading, has_read, device, batch)

    def has_read(now, device, batch):
        reader_free[device] = True
        slow = drawn.decoding[batch][device]
        at(now + work.batch_size / machines.decode_rate * slow, has_made, device, batch)
        read(now, device)

    def has_made(now, device, batch):
        made[device].add(batch)
        idle[device][batch % workers] = True
        read(now, device)
        begin(now, device)

    def begin(now, device):
        number = current[device]
        if number < steps and number in made[device] and len(ends) == number and (number, device) not in started:
            started[number, device] = now
            asked[device] += 1
            read(now, device)
            own = work.step_seconds * drawn.compute[number][device]
            forward = machines.forward_share
            for index, bucket in enumerate(work.buckets):
                at(now + own * (forward + (1 - forward) * bucket.ready), has_filled, number, index)
            at(now + own, has_filled, number, len(work.buckets))

    def has_filled(now, number, index):
        filled[number, index] = filled.get((number, index), 0) + 1
        send(now, number)

    def send(now, number):
        index = line["next"]
        if not line["busy"] and index < len(work.buckets) and filled.get((number, index)) == devices:
            line["busy"] = True
            at(now + all_reduce_seconds(work.buckets[index].size, devices, machines), has_sent, number)
        elif not line["busy"] and index == len(work.buckets) and filled.get((number, index)) == devices:
            line["busy"] = True
            at(now + all_reduce_seconds(work.statistics_bytes, devices, machines), has_ended, number)

    def has_sent(now, number):
        line.update(busy=False, next=line["next"] + 1)
        send(now, number)

    def has_ended(now, number):
        line.update(busy=False, next=0)
        ends.append(now)
        for device in range(devices):
            current[device] += 1
            begin(now, device)

    for device in range(devices):
        asked[device] = 2 * workers
        read(0.0, device)
    while queue:
        now, _, action, arguments = heapq.heappop(queue)
        action(now, *arguments)
    return ends


@given(cases(), st.integers(0, 1000))
@settings(max_examples=60)
def test_the_simulation_is_that_of_a_queue_of_events(case, seed):
    work, machines, devices = case
    drawn = noise(9, devices, 0.3, seed)
    played = play(work, machines, devices, work.batch_size, drawn)
    ends = list(itertools.accumulate(one.seconds for one in played))
    assert ends == pytest.approx(events(work, machines, devices, drawn))


# -- networks --------------------------------------------------------------------------------------------------

# Parameters and multiply-adds of timm, Cadene and the port.
KNOWN = {"senet154": (115_088_984, 20.69), "se_resnet50": (28_071_976, 4.09), "pnasnet5large": (88_266_156, 24.94)}


@pytest.mark.parametrize("network", sorted(DOCUMENTED))
def test_a_network_is_counted_as_it_is_known(network):
    parameters, gmac = KNOWN[network]
    full, half = count(network, "O0"), count(network, "O2")
    assert (full.parameters, round(full.macs / 1e9, 2)) == (parameters, gmac)
    assert full.size() == count(network, "O1").size() == count(network, "bf16").size() == 4 * parameters
    assert half.recipe.precision == "O2"
    with torch.device("meta"):
        options = {"auxiliary_head": True} if network == "pnasnet5large" else {}
        made = create(network, **options)
    normalised = [module for module in made.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    features = sum(module.num_features for module in normalised)
    assert half.size() == 2 * parameters + 2 * 2 * features  # scales and shifts stay float32
    assert half.statistics_bytes == 4 * (2 * features + 4)
    assert sum(bucket.size for bucket in workload(network).buckets) == half.size()


def test_the_rates_are_the_documented_ones():
    assert documented_rate("se_resnet50") == 747.41
    assert documented_rate("pnasnet5large") == 69
    assert documented_rate("senet154") == pytest.approx(1524.537 / 8)
    assert workload("se_resnet50").step_seconds == pytest.approx(128 / 747.41)
    assert all(set(rates) == set(DOCUMENTED) for rates in RATES.values())


@pytest.mark.parametrize("level", ["O0", "O2"])
@pytest.mark.parametrize("network", sorted(DOCUMENTED))
def test_buckets_are_filled_as_torch_fills_them(network, level):
    gradients = count(network, level).gradients
    dtypes = {"torch.float32": torch.float32, "torch.float16": torch.float16}
    tensors = [
        torch.empty(one.size // dtypes[one.dtype].itemsize, dtype=dtypes[one.dtype], device="meta") for one in gradients
    ]
    groups, _ = dist._compute_bucket_assignment_by_size(tensors, [MIB, 25 * MIB])
    expected = sorted(sum(gradients[index].size for index in group) for group in groups)
    assert sorted(bucket.size for bucket in buckets(gradients)) == expected


def test_a_bucket_is_full_when_it_reaches_its_limit():
    sizes = [MIB, 25 * MIB, 4, 25 * MIB - 4, 4]
    found = buckets([Gradient(size, "torch.float32", 0.0) for size in sizes])
    tensors = [torch.empty(size // 4, device="meta") for size in sizes]
    groups, _ = dist._compute_bucket_assignment_by_size(tensors, [MIB, 25 * MIB])
    assert [bucket.size for bucket in found] == [sum(sizes[index] for index in group) for group in groups]
    assert [bucket.size for bucket in found] == [MIB, 25 * MIB, 25 * MIB, 4]


@given(st.lists(st.builds(Gradient, st.integers(1, 30 * MIB), st.sampled_from("ab"), st.floats(0, 1)), max_size=30))
def test_every_gradient_is_in_one_bucket(gradients):
    found = buckets(gradients)
    assert sum(bucket.size for bucket in found) == sum(one.size for one in gradients)
    assert list(found) == sorted(found, key=lambda bucket: bucket.ready)


def test_a_real_ddp_has_these_buckets(tmp_path):
    """Rebuilt by torch in the order in which a real backward pass makes the gradients."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        network = torch.nn.parallel.DistributedDataParallel(create("se_resnet50"))
        network._set_ddp_runtime_logging_sample_rate(1)
        for _ in range(3):  # the first backward pass finds the order, the third step reports it
            network(torch.zeros(2, 3, 32, 32)).sum().backward()
        sizes = network._get_ddp_logging_data()["rebuilt_bucket_sizes"]
    finally:
        dist.destroy_process_group()
    found = [bucket.size for bucket in workload("se_resnet50", level="O0").buckets]
    assert sorted(int(size) for size in sizes.split(",")) == sorted(found)
