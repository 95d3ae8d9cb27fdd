"""The tables of README.md, each between two marks with its name; `__main__.py --markdown` updates them."""

from __future__ import annotations

import dataclasses
import re
from typing import Any, Callable, Dict, List, Tuple

from benchmarks.scaling import networks as scaling_networks
from benchmarks.scaling.__main__ import DEVICES, LARGEST_BATCH, Row, cluster, row, steps_table, table
from benchmarks.scaling.defaults import DEFAULTS, measured
from benchmarks.scaling.model import Cluster, Workload, buckets, epoch_seconds, step
from benchmarks.scaling.networks import DOCUMENTED, RATES, count, documented_rate, workload
from shared.errors import UsageError

NAMES = {"senet154": "SENet154", "se_resnet50": "SE-ResNet-50", "pnasnet5large": "PNASNet-5-Large"}
GOOD = 0.9
Change = Tuple[str, Dict[str, Any], str, str]  # description, changed inputs, precision, name of the rates

FAST = {"shard_gb_s": 8, "network_gbit": 400, "node_gb_s": 230}

# Each row changes the defaults in one way.
CHANGES: Tuple[Change, ...] = (
    ("the table of inputs", {}, "", "ascend910"),
    ("gradients in float32 (O0, O1, bf16)", {}, "O1", "ascend910"),
    ("network of 25 Gbit/s", {"network_gbit": 25}, "", "ascend910"),
    ("network of 400 Gbit/s", {"network_gbit": 400}, "", "ascend910"),
    ("4 cores per device", {"cores_per_device": 4}, "", "ascend910"),
    ("1 core per device", {"cores_per_device": 1}, "", "ascend910"),
    ("storage of 0.5 GB/s per node", {"shard_gb_s": 0.5}, "", "ascend910"),
    ("no spread", {"spread": 0.0}, "", "ascend910"),
    ("a spread of 5 %", {"spread": 0.05}, "", "ascend910"),
    ("steps of an RTX 3090", {}, "", "rtx3090"),
    ("steps of an H200", {}, "", "h200"),
    ("H200, network of 25 Gbit/s", {"network_gbit": 25}, "", "h200"),
    ("H200, storage of 8 GB/s", {"shard_gb_s": 8}, "", "h200"),
    ("H200, 8 GB/s, 400 Gbit/s, NVLink", FAST, "", "h200"),
    ("the same, gradients in float32", FAST, "bf16", "h200"),
    ("the same at O2, 8 cores per device", {**FAST, "cores_per_device": 8}, "", "h200"),
)


def inputs() -> str:
    """The inputs with their sources, the measured ones with their range."""
    rows = [
        [
            f"`--{name.replace('_', '-')}`",
            f"{one.value:.3g}" if one.value != 115.4 else "115.4",
            one.unit,
            one.status,
            one.source,
        ]
        for name, one in DEFAULTS.items()
    ]
    decode = measured()["decode"]
    for size, rate in decode["images_per_second_and_core"].items():
        origin = f"a core at {size} pixels, {rate['low']:.0f} to {rate['high']:.0f}: {_origin(decode)}"
        rows.append(["`--decode-rate`", f"{rate['median']:.0f}", "images/s", "measured", origin])
    return table(["input", "value", "unit", "status", "where from"], rows, text_columns=(0, 2, 3, 4))


def _origin(part: Dict[str, Any]) -> str:
    return f"{part['machine']}, load {part['load']}, {part['date']}"


def rates() -> str:
    """Images per second of one device."""
    sources = {
        "ascend910": "documented: the originals' rows; SENet154's of 8 NPUs, divided by 8",
        "rtx3090": "documented: timm's benchmark-train-amp-*-rtx3090.csv, the faster layout (its seresnet50)",
        "h200": "assumed: 20, 40 and 23 % of what the memory's bandwidth allows, the share that peers reach",
    }
    rows = [
        [f"`{name}`", *(f"{RATES[name][network]:,.1f}" for network in DOCUMENTED), source]
        for name, source in sources.items()
    ]
    return table(["`--rates`", *(NAMES[network] for network in DOCUMENTED), "where from"], rows, text_columns=(0, -1))


def networks() -> str:
    """Size and communication volume of the networks."""
    rows = []
    for name in DOCUMENTED:
        half, full = count(name), count(name, "O0")
        last = buckets(half.gradients)[-1]
        rows.append(
            [
                NAMES[name],
                f"{half.parameters:,}",
                f"{half.macs / 1e9:.2f}",
                f"{half.size() / 1e6:.1f}",
                f"{full.size() / 1e6:.1f}",
                f"{len(buckets(half.gradients))}",
                f"{last.size / 1e6:.1f}",
                f"{half.statistics_bytes / 1000:.0f}",
            ]
        )
    head = ["network", "parameters", "GMAC", "MB at O2", "MB otherwise", "buckets", "last one, MB", "statistics, kB"]
    return table(head, rows, text_columns=[0])


def same_batch(network: str) -> str:
    """Weak scaling: the recipe's batch on every device."""
    return steps_table(_rows(workload(network), _cluster(network)))


def same_global_batch(network: str) -> str:
    """Strong scaling: LARGEST_BATCH images shared by all devices."""
    first = workload(network)
    devices = [devices for devices in DEVICES if LARGEST_BATCH // devices <= first.batch_size]
    return steps_table([row(first, _cluster(network), one, LARGEST_BATCH) for one in devices])


def changes() -> str:
    """Efficiency at 8, 64 and 1,024 devices, and the limit at 1,024, for each change."""
    rows: List[List[str]] = []
    for what, changed, level, whose in CHANGES:
        cells = [what]
        for network in DOCUMENTED:
            first, machines = workload(network, whose, level), _cluster(network, changed)
            found = [row(first, machines, devices) for devices in (8, 64, 1024)]
            cells.append(f"{' / '.join(f'{one.efficiency:.2f}' for one in found)} {found[-1].limit}")
        rows.append(cells)
    return table(["with", *(NAMES[network] for network in DOCUMENTED)], rows, text_columns=(0, 1, 2, 3))


def epochs() -> str:
    """Seconds of training, evaluation and checkpoint in an epoch at the recipe's batch."""
    rows = []
    for network in DOCUMENTED:
        first, machines = workload(network), _cluster(network)
        for one in _rows(first, machines):
            if one.devices in (1, 8, 64, 256, 1024):
                parts = epoch_seconds(first, machines, one.devices, one.batch_size, one.step.seconds)
                rest = f"{100 * (parts[1] + parts[2]) / sum(parts):.0f} %"
                rows.append([NAMES[network], f"{one.devices:,}", *(f"{part:,.1f}" for part in parts), rest])
    head = ["network", "devices", "training, s", "evaluation, s", "checkpoint, s", "share of the last two"]
    return table(head, rows, text_columns=[0])


def good() -> str:
    """The largest number of devices of each network: at efficiency `GOOD`, and at LARGEST_BATCH images per step."""
    rows = []
    for network in DOCUMENTED:
        first, machines = workload(network), _cluster(network)
        same = max(one.devices for one in _rows(first, machines) if one.efficiency >= GOOD)
        harmless = max(devices for devices in DEVICES if devices * first.batch_size <= LARGEST_BATCH)
        shared = [row(first, machines, devices, LARGEST_BATCH) for devices in DEVICES if devices >= harmless]
        fair = max((one for one in shared if one.efficiency >= 0.5), key=lambda one: one.devices)
        rows.append([NAMES[network], f"{same:,}", f"{harmless:,}", f"{fair.devices:,} ({fair.batch_size} images each)"])
    whole = f"{LARGEST_BATCH:,} images"
    head = ["network", "90 %, the recipe's batch", f"{whole} a step", f"50 %, {whole}"]
    return table(head, rows, text_columns=(0, 1, 2, 3))


def found_here() -> str:
    """Measurements of shards, gloo and two ranks, with the prediction of the model."""
    shards, gloo, ranks = (measured()[part] for part in ("shards", "gloo", "ranks"))
    decoded = _spread(shards["images_per_second_and_core"])
    rows = [
        ["shards from memory, a core", "GB/s", *_spread(shards["gb_s_and_core"]), "", _origin(shards)],
        ["decoding from shards, a core", "images/s", *decoded, "", _origin(shards)],
    ]
    for size, one in gloo["ms"].items():
        rows.append([f"gloo's all-reduce of {int(size):,} bytes", "ms", *_spread(one), "", _origin(gloo)])
    names = {"alone": "one process", "side_by_side": "two that do not exchange", "ranks": "two ranks"}
    for name, what in names.items():
        model = f"{_two_ranks(False):.0f} to {_two_ranks(True):.0f}" if name == "ranks" else ""
        rows.append([f"a step of {what}", "ms", *_spread(ranks[name]), model, _origin(ranks)])
    head = ["measured", "unit", "median", "lowest", "highest", "model", "where"]
    return table(head, rows, text_columns=(0, 1, 5, 6))


def _spread(one: Dict[str, float]) -> List[str]:
    return [f"{one[name]:,.4g}" for name in ("median", "low", "high")]


def _two_ranks(exposed: bool) -> float:
    """Predicted milliseconds of a step of two ranks; `exposed`: without overlap of communication and backward pass."""
    gloo, ranks = measured()["gloo"], measured()["ranks"]
    machines = Cluster(2, node_gb_s=gloo["gb_s"], node_us=gloo["us"])
    seconds = ranks["side_by_side"]["median"] / 1000
    work = scaling_networks.sample_workload(ranks["image_size"], ranks["batch_size"], seconds)
    if exposed:
        work = dataclasses.replace(work, buckets=tuple(bucket._replace(ready=1.0) for bucket in work.buckets))
    return 1000 * step(work, machines, 2, work.batch_size).seconds


def documented() -> str:
    """Documented efficiency of eight devices, and that of the model."""
    rows = []
    for network in ("se_resnet50", "pnasnet5large"):
        one, eight = documented_rate(network), documented_rate(network, 8)
        model = row(workload(network), _cluster(network), 8)
        efficiencies = [f"{eight / one / 8:.2f}", f"{model.efficiency:.2f}"]
        rows.append([NAMES[network], f"{one:,.1f}", f"{eight:,.1f}", *efficiencies])
    head = ["network", "1 NPU, images/s", "8 NPUs, images/s", "efficiency", "the model's"]
    return table(head, rows, text_columns=[0])


def blocks() -> Dict[str, Callable[[], str]]:
    """The functions of all tables by name."""
    found: Dict[str, Callable[[], str]] = {
        "inputs": inputs,
        "rates": rates,
        "networks": networks,
        "changes": changes,
        "epochs": epochs,
        "good": good,
        "found here": found_here,
        "documented": documented,
    }
    for network in DOCUMENTED:
        found[f"{network}, the recipe's batch"] = lambda network=network: same_batch(network)  # type: ignore[misc]
        found[f"{network}, {LARGEST_BATCH} images"] = lambda network=network: same_global_batch(network)  # type: ignore[misc]
    return found


def renewed(text: str) -> str:
    """The document with its tables updated. Raises UsageError for a mark that names no table."""
    known = blocks()

    def replaced(match: "re.Match[str]") -> str:
        if match.group(1) not in known:
            raise UsageError(f"there is no table {match.group(1)!r}; known are {', '.join(sorted(known))}")
        return f"<!-- {match.group(1)}: begin -->\n\n{known[match.group(1)]()}\n<!-- {match.group(1)}: end -->"

    return re.sub(r"<!-- ([^>]*): begin -->.*?<!-- \1: end -->", replaced, text, flags=re.DOTALL)


def _cluster(network: str, changed: Any = ()) -> Cluster:
    return cluster(scaling_networks.image_size(network), dict(changed))


def _rows(first: Workload, machines: Cluster) -> List[Row]:
    return [row(first, machines, devices) for devices in DEVICES]
