"""The scaling model: cases computed by hand, limits, and torch's own buckets."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

import torch.distributed as dist  # noqa: E402

from benchmarks.scaling.cluster import Cluster  # noqa: E402
from benchmarks.scaling.model import Bucket, Workload, all_reduce_seconds, step  # noqa: E402
from benchmarks.scaling.networks import DOCUMENTED, RATES, documented_rate, workload  # noqa: E402
from torch_imagenet.networks import create  # noqa: E402

MIB = 2**20
SMALL = Workload(32, 0.1, (Bucket(25 * MIB, 0.4), Bucket(5 * MIB, 1.0)), 4096)
REAL = Cluster(400, cores_per_device=3)


def without_limits(cluster):
    """The cluster with free communication, images and files, and with devices of equal speed."""
    names = ("node_gb_s", "network_gbit", "cores_per_device", "decode_rate", "shard_gb_s")
    return dataclasses.replace(cluster, node_us=0.0, network_us=0.0, spread=0.0, **dict.fromkeys(names, math.inf))


@st.composite
def cases(draw):
    """A workload, a cluster and a number of devices."""
    rates = st.floats(0.1, 100)
    sizes = draw(st.lists(st.integers(1, 40 * MIB), max_size=4))
    ready = sorted(draw(st.lists(st.floats(0, 1), min_size=len(sizes), max_size=len(sizes))))
    buckets = tuple(map(Bucket, sizes, ready))
    work = Workload(draw(st.integers(1, 64)), draw(st.floats(1e-3, 1)), buckets, draw(st.integers(0, MIB)))
    machines = Cluster(
        draw(st.floats(10, 5000)),
        draw(st.integers(1, 4)),
        *(draw(rates) for _ in range(4)),
        0.9,
        draw(st.integers(1, 4)),
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
    local = min(devices, 8)
    nodes = math.ceil(devices / local)
    found = all_reduce_seconds(size, devices, REAL)
    assert found >= 2 * (local - 1) / local * size / 30e9 + 2 * (nodes - 1) / nodes * size / (100e9 / 8)
    assert found <= all_reduce_seconds(2 * size, devices, REAL) <= 2 * found or devices == 1


def test_a_step_by_hand():
    """0.1 s: forward until 1/30; the first bucket is full at 0.06 and takes 5 ms; only the last one's 1 ms is seen."""
    cluster = dataclasses.replace(without_limits(REAL), node_gb_s=2 * 7 / 8 * 25 * MIB / 0.005 / 1e9)
    work = dataclasses.replace(SMALL, statistics_bytes=0)
    found = step(work, cluster, 8)
    assert (found.ideal, found.limit) == (pytest.approx(0.1), "device")
    assert found.lost == pytest.approx({"slowest device": 0, "exchange": 0.001, "decoding": 0, "small batch": 0})
    slower = dataclasses.replace(cluster, node_gb_s=cluster.node_gb_s / 10)  # 50 ms, until 0.11, then 10 ms
    assert step(work, slower, 8).lost["exchange"] == pytest.approx(0.02)


def test_buckets_travel_one_after_another():
    cluster = dataclasses.replace(without_limits(REAL), node_gb_s=MIB / 1e9)  # two devices: a second per MiB
    work = Workload(32, 1.5, (Bucket(2 * MIB, 0.0), Bucket(MIB, 0.5), Bucket(MIB, 1.0)))
    assert step(work, cluster, 2).seconds == pytest.approx(0.5 + 4)  # the others wait for the first
    quick = dataclasses.replace(work, buckets=(Bucket(MIB // 4, 0.0), Bucket(MIB // 8, 1.0)))
    assert step(quick, cluster, 2).seconds == pytest.approx(1.5 + 0.125)


@pytest.mark.parametrize("devices", [1, 2, 64])
def test_the_slowest_device_is_as_slow_as_the_mean_of_the_largest_exponential(devices):
    found = step(Workload(32, 1.0), dataclasses.replace(without_limits(REAL), spread=0.1), devices)
    assert found.seconds == pytest.approx(0.9 + 0.1 * sum(1 / number for number in range(1, devices + 1)))


# -- limits ----------------------------------------------------------------------------------------------------


@given(cases())
def test_one_device_exchanges_nothing(case):
    work, machines, _ = case
    found = step(work, machines, 1)
    assert found.lost["exchange"] == pytest.approx(0, abs=1e-12)
    assert found.ideal == pytest.approx(work.step_seconds)


@given(cases())
def test_without_limits_everything_is_linear(case):
    work, machines, devices = case
    found = step(work, without_limits(machines), devices)
    assert found.seconds == pytest.approx(work.step_seconds)
    assert (found.efficiency, found.limit) == (pytest.approx(1), "device")


def images_per_second(machines, devices, limit):
    found = step(SMALL, machines, devices)
    assert found.limit == limit
    return found.global_batch / found.seconds


@pytest.mark.parametrize("devices", [1, 8, 64])
def test_images_come_as_fast_as_they_are_decoded(devices):
    machines = dataclasses.replace(REAL, decode_rate=50)
    memory = dataclasses.replace(machines, shard_gb_s=math.inf)
    assert images_per_second(memory, devices, "decoding") == pytest.approx(devices * 3 * 50)
    reading = 115.4e3 * min(devices, 8) / 2e9  # a core waits for what it reads, too
    expected = devices * 3 / (1 / 50 + reading)
    assert images_per_second(machines, devices, "decoding") == pytest.approx(expected)


@pytest.mark.parametrize("devices", [8, 64])
def test_images_come_as_fast_as_they_are_read(devices):
    machines = dataclasses.replace(REAL, shard_gb_s=0.1, decode_rate=math.inf)
    assert images_per_second(machines, devices, "storage") == pytest.approx(devices / 8 * 0.1e9 / 115.4e3)


def test_a_smaller_batch_keeps_its_fixed_part():
    found = step(SMALL, without_limits(REAL), 1024, global_batch=4096)
    assert (found.batch_size, found.limit) == (4, "small batch")
    assert found.seconds == pytest.approx(0.01 + 0.09 / 8)


# -- networks --------------------------------------------------------------------------------------------------

# Parameters and multiply-adds of timm, Cadene and the port.
KNOWN = {"senet154": (115_088_984, 20.69), "se_resnet50": (28_071_976, 4.09), "pnasnet5large": (88_266_156, 24.94)}


@pytest.mark.parametrize("network", ["senet154", "se_resnet50", pytest.param("pnasnet5large", marks=pytest.mark.slow)])
def test_a_network_is_counted_as_it_is_known(network):
    parameters, gmac = KNOWN[network]
    full, half = workload(network, level="O0"), workload(network, level="O2")
    assert (full.parameters, round(full.macs / 1e9, 2)) == (parameters, gmac)
    assert full.buckets == workload(network, level="O1").buckets == workload(network, level="bf16").buckets
    assert full.gradient_bytes() == 4 * parameters
    assert half == workload(network)
    with torch.device("meta"):
        options = {"auxiliary_head": True} if network == "pnasnet5large" else {}
        made = create(network, **options)
    normalised = [module for module in made.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    features = sum(module.num_features for module in normalised)
    assert half.gradient_bytes() == 2 * parameters + 2 * 2 * features  # scales and shifts stay float32
    assert half.statistics_bytes == 4 * (2 * features + 4)
    assert list(half.buckets) == sorted(half.buckets, key=lambda bucket: bucket.ready)
    assert half.buckets[-1].ready == 1


def test_the_rates_are_the_documented_ones():
    assert documented_rate("se_resnet50", 1) == 747.41
    assert documented_rate("pnasnet5large", 1) == 69
    assert RATES["ascend910"]["senet154"] == pytest.approx(1524.537 / 8)
    assert workload("se_resnet50").step_seconds == pytest.approx(128 / 747.41)
    assert all(set(rates) == set(DOCUMENTED) for rates in RATES.values())


@pytest.mark.slow
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
