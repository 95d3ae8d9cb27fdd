"""The tables of docs/scaling.md, each between two marks with its name; `__main__.py --markdown` updates them."""

from __future__ import annotations

import dataclasses
from typing import Callable, Dict, List, Optional, Sequence, Tuple

from benchmarks.scaling.cluster import Cluster, cluster, measured
from benchmarks.scaling.model import Step, step
from benchmarks.scaling.networks import DOCUMENTED, RATES, documented_rate, recipe, workload
from scripts import code_map

DEVICES = tuple(2**power for power in range(11))
IN_DOCUMENT = (1, 8, 16, 64, 256, 1024)
# The largest global batch known to cost no accuracy with SGD and the linear scaling rule (Goyal et al., 2017).
LARGEST_BATCH = 8192
NAMES = {"senet154": "SENet154", "se_resnet50": "SE-ResNet-50", "pnasnet5large": "PNASNet-5-Large"}
SOURCES = {  # of RATES
    "ascend910": "documented: the originals' rows; SENet154's of 8 NPUs, divided by 8",
    "rtx3090": "documented: timm's benchmark-train-amp-*-rtx3090.csv, the faster layout (its seresnet50)",
    "h200": "assumed: 20, 40 and 23 % of what the memory's bandwidth allows, the share that peers reach",
}
FAST = {"shard_gb_s": 8, "network_gbit": 400, "node_gb_s": 230}
# What changes: description, inputs, precision, name of the rates.
CHANGES: Tuple[Tuple[str, Dict[str, float], str, str], ...] = (
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


def table(head: Sequence[str], rows: Sequence[Sequence[str]], text_columns: Sequence[int]) -> str:
    """A Markdown table with aligned columns: `text_columns` to the left, the others (numbers) to the right."""
    widths = [max(map(len, column)) for column in zip(head, *rows)]
    left = {at % len(head) for at in text_columns}
    rule = ["-" * width if at in left else "-" * (width - 1) + ":" for at, width in enumerate(widths)]
    lines = [
        [f"{cell:{'<' if at in left else '>'}{widths[at]}}" for at, cell in enumerate(cells)]
        for cells in (head, rule, *rows)
    ]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def steps_table(steps: Sequence[Step]) -> str:
    """The steps of one network; an asterisk marks a global batch above LARGEST_BATCH."""
    head = "devices,batch,global batch,images/s,efficiency,ms/step,slowest,exchange,images,limit".split(",")
    rows = []
    for one in steps:
        images = one.lost.get("decoding", 0.0) + one.lost.get("storage", 0.0)
        waits = [one.lost["slowest device"], one.lost["exchange"], images]
        rows.append(
            [
                f"{one.devices:,}",
                f"{one.batch_size}",
                f"{one.global_batch:,}{'*' * (one.global_batch > LARGEST_BATCH)}",
                f"{one.global_batch / one.seconds:,.0f}",
                f"{one.efficiency:.2f}",
                *(f"{1000 * seconds:.1f}" for seconds in [one.seconds, *waits]),
                one.limit,
            ]
        )
    return table(head, rows, text_columns=[-1])


def inputs() -> str:
    """The inputs with their sources, the measured ones with their range."""
    rows = [
        [f"`--{one.name.replace('_', '-')}`", f"{one.default:.4g}", one.metadata["unit"], one.metadata["source"]]
        for one in dataclasses.fields(Cluster)
        if one.metadata
    ]
    decode = measured()
    for size, rate in decode["images_per_second_and_core"].items():
        where = f"decoder {decode['decoder']}, {decode['machine']}, load {decode['load']}, {decode['date']}"
        source = f"measured: a core at {size} pixels, {rate['low']:.0f} to {rate['high']:.0f}: {where}"
        rows.append(["`--decode-rate`", f"{rate['median']:.0f}", "images/s", source])
    return table(["input", "value", "unit", "where from"], rows, text_columns=(0, 2, 3))


def rates() -> str:
    """Images per second of one device."""
    rows = [[f"`{name}`", *(f"{RATES[name][one]:,.1f}" for one in DOCUMENTED), SOURCES[name]] for name in RATES]
    return table(["`--rates`", *(NAMES[network] for network in DOCUMENTED), "where from"], rows, text_columns=(0, -1))


def networks() -> str:
    """Size and communication volume of the networks."""
    rows = []
    for name in DOCUMENTED:
        half, full = workload(name), workload(name, level="O0")
        rows.append(
            [
                NAMES[name],
                f"{half.parameters:,}",
                f"{half.macs / 1e9:.2f}",
                f"{half.gradient_bytes() / 1e6:.1f}",
                f"{full.gradient_bytes() / 1e6:.1f}",
                f"{len(half.buckets)}",
                f"{half.buckets[-1].size / 1e6:.1f}",
                f"{half.statistics_bytes / 1000:.0f}",
            ]
        )
    head = ["network", "parameters", "GMAC", "MB at O2", "MB otherwise", "buckets", "last one, MB", "statistics, kB"]
    return table(head, rows, text_columns=[0])


def _steps(network: str, devices: Sequence[int] = DEVICES, global_batch: Optional[int] = None) -> List[Step]:
    work, machines = workload(network), _cluster(network)
    return [step(work, machines, one, global_batch) for one in devices]


def _shared(network: str) -> List[Step]:
    """LARGEST_BATCH images on as many devices as keep to the recipe's batch on each."""
    devices = [devices for devices in DEVICES if devices * recipe(network).batch_size >= LARGEST_BATCH]
    return _steps(network, devices, LARGEST_BATCH)


def changes() -> str:
    """Efficiency at 8, 64 and 1,024 devices, and the limit at 1,024, for each change."""
    rows: List[List[str]] = []
    for what, changed, level, whose in CHANGES:
        rows.append([what])
        for network in DOCUMENTED:
            work, machines = workload(network, whose, level), _cluster(network, **changed)
            found = [step(work, machines, devices) for devices in (8, 64, 1024)]
            rows[-1].append(f"{' / '.join(f'{one.efficiency:.2f}' for one in found)} {found[-1].limit}")
    return table(["with", *(NAMES[network] for network in DOCUMENTED)], rows, text_columns=(0, 1, 2, 3))


def good() -> str:
    """The largest number of devices of each network: at 90 % efficiency, and at LARGEST_BATCH images per step."""
    rows = []
    for network in DOCUMENTED:
        steps = _steps(network)
        same = max(one.devices for one in steps if one.efficiency >= 0.9)
        harmless = max(one.devices for one in steps if one.global_batch <= LARGEST_BATCH)
        fair = [one for one in _shared(network) if one.efficiency >= 0.5][-1]
        rows.append([NAMES[network], f"{same:,}", f"{harmless:,}", f"{fair.devices:,} ({fair.batch_size} images each)"])
    whole = f"{LARGEST_BATCH:,} images"
    head = ["network", "90 %, the recipe's batch", f"{whole} a step", f"50 %, {whole}"]
    return table(head, rows, text_columns=(0, 1, 2, 3))


def documented() -> str:
    """Documented efficiency of eight devices, and that of the model."""
    rows = []
    for network in ("se_resnet50", "pnasnet5large"):
        one, eight = documented_rate(network, 1), documented_rate(network, 8)
        (model,) = _steps(network, [8])
        efficiencies = [f"{eight / one / 8:.2f}", f"{model.efficiency:.2f}"]
        rows.append([NAMES[network], f"{one:,.1f}", f"{eight:,.1f}", *efficiencies])
    head = ["network", "1 NPU, images/s", "8 NPUs, images/s", "efficiency", "the model's"]
    return table(head, rows, text_columns=[0])


def blocks() -> Dict[str, Callable[[], str]]:
    """The functions of all tables by name."""
    found: Dict[str, Callable[[], str]] = {
        made.__name__: made for made in (inputs, rates, networks, changes, good, documented)
    }
    for network in DOCUMENTED:
        found[f"{network}, the recipe's batch"] = lambda network=network: steps_table(_steps(network, IN_DOCUMENT))
        found[f"{network}, {LARGEST_BATCH} images"] = lambda network=network: steps_table(_shared(network))
    return found


def renewed(text: str) -> str:
    """The document with its tables updated."""
    for name, made in blocks().items():
        if f"<!-- {name}:begin -->" in text:
            text = code_map.renewed(text, name, f"\n{made()}\n")
    return text


def _cluster(network: str, **changed: float) -> Cluster:
    return cluster(recipe(network).image_size, changed)
