"""Scaling model, from one device to 1,024: the duration of a training step, its waiting times, and what limits it.

    python benchmarks/scaling/__main__.py [--network senet154] [--step-ms 640 --batch-size 128] [--devices 1,8,64,1024]
        [--rates ascend910] [--precision O2] [--global-batch 8192] [--cores-per-device 12] [--network-gbit 100] ...
    python benchmarks/scaling/__main__.py --markdown benchmarks/scaling/README.md

Every quantity in README.md's table of inputs has an option. --inputs FILE reads them from JSON, for example
{"network_gbit": 200, "decode_rate": 450}. Steps are simulated with --seed. The batch per device is the recipe's, or its
share of --global-batch. --markdown FILE instead updates the tables between the marks of a document. Needs torch, to
count the gradients of the networks.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.scaling.defaults import DEFAULTS, decode_rate  # noqa: E402
from benchmarks.scaling.model import Cluster, Step, Workload, image_seconds  # noqa: E402
from benchmarks.scaling.simulation import simulate  # noqa: E402
from shared.cli.arguments import Parser, number, one_of, whole_numbers  # noqa: E402
from shared.errors import UsageError  # noqa: E402
from shared.system.atomic_files import write_atomic  # noqa: E402
from shared.system.paths import expanded  # noqa: E402
from shared.text import nearest  # noqa: E402

DEVICES = tuple(2**power for power in range(11))
SIMULATED_STEPS, SEED = 100, 0
# The largest global batch known to cost no accuracy with SGD and the linear scaling rule (Goyal et al., 2017).
LARGEST_BATCH = 8192
MAY_BE_ZERO = ("node_us", "network_us", "spread", "forward_share", "fixed_share")
NEGLIGIBLE = 0.05  # share of a step below which nothing counts as the limit


class Row(NamedTuple):
    """The result for one number of devices; `efficiency` is relative to as many devices that never wait."""

    devices: int
    batch_size: int
    step: Step
    images_per_second: float
    efficiency: float
    limit: str

    @property
    def global_batch(self) -> int:
        return self.devices * self.batch_size


def row(
    workload: Workload, cluster: Cluster, devices: int, global_batch: Optional[int] = None, seed: int = SEED
) -> Row:
    """Simulate. The batch per device is the workload's, or its share of `global_batch`, and at least 1."""
    batch = workload.batch_size if global_batch is None else max(1, global_batch // devices)
    step = simulate(workload, cluster, devices, batch, SIMULATED_STEPS, seed)
    rate = devices * batch / step.seconds
    ideal = devices * workload.batch_size / workload.step_seconds
    return Row(devices, batch, step, rate, rate / ideal, limit(workload, cluster, devices, batch, step))


def limit(workload: Workload, cluster: Cluster, devices: int, batch_size: int, step: Step) -> str:
    """The cause of the largest part of the lost time."""
    cores, storage = image_seconds(cluster, devices)
    small = step.compute - workload.step_seconds * batch_size / workload.batch_size
    lost = {
        "slowest device": step.slowest,
        "exchange": step.exchange,
        "decoding" if cores >= storage else "storage": step.images,
        "small batch": small,
    }
    most = max(lost, key=lambda name: lost[name])
    return most if lost[most] > NEGLIGIBLE * step.seconds else "device"


# -- tables ----------------------------------------------------------------------------------------------------


def table(head: Sequence[str], rows: Sequence[Sequence[str]], text_columns: Sequence[int]) -> str:
    """A Markdown table with aligned columns: `text_columns` to the left, the others (numbers) to the right."""
    widths = [max(len(cells[at]) for cells in [head, *rows]) for at in range(len(head))]
    text_columns = [at % len(head) for at in text_columns]

    def line(cells: Sequence[str]) -> str:
        columns = enumerate(zip(cells, widths))
        padded = (cell.ljust(width) if at in text_columns else cell.rjust(width) for at, (cell, width) in columns)
        return "| " + " | ".join(padded) + " |"

    rule = ["-" * width if at in text_columns else "-" * (width - 1) + ":" for at, width in enumerate(widths)]
    return "\n".join(map(line, [head, rule, *rows])) + "\n"


def steps_table(rows: Sequence[Row]) -> str:
    """The rows of one network; an asterisk marks a global batch above LARGEST_BATCH."""
    head = "devices,batch,global batch,images/s,efficiency,ms/step,slowest,exchange,images,limit".split(",")
    cells = [
        [
            f"{one.devices:,}",
            f"{one.batch_size}",
            f"{one.global_batch:,}{'*' * (one.global_batch > LARGEST_BATCH)}",
            f"{one.images_per_second:,.0f}",
            f"{one.efficiency:.2f}",
            f"{1000 * one.step.seconds:.1f}",
            *(f"{max(0.0, 1000 * part):.1f}" for part in (one.step.slowest, one.step.exchange, one.step.images)),
            one.limit,
        ]
        for one in rows
    ]
    return table(head, cells, text_columns=[-1])


# -- inputs ----------------------------------------------------------------------------------------------------


def cluster(image_size: int, inputs: Dict[str, Any]) -> Cluster:
    """The cluster of these inputs, with defaults for the others. Raises UsageError for an unknown name."""
    known = {field.name for field in dataclasses.fields(Cluster)}
    for name in inputs:
        if name not in known:
            raise UsageError(f"unknown input {name!r}; {nearest(name, known)}")
    values = {name: default.value for name, default in DEFAULTS.items()}
    return Cluster(**{**values, "decode_rate": decode_rate(image_size), **inputs})


def read_inputs(path: Optional[str]) -> Dict[str, Any]:
    """Read inputs from a JSON file. Raises UsageError where it is not an object of numbers."""
    if path is None:
        return {}
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read as JSON ({error}); write an object of numbers") from error
    if not isinstance(content, dict) or not all(type(value) in (int, float) for value in content.values()):
        raise UsageError(f'{path} is not a JSON object of numbers; write {{"network_gbit": 100}}')
    return content


def _parser() -> Parser:
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add("--network", help="default: all three")
    add("--rates", default="ascend910", type=one_of("ascend910", "rtx3090", "h200"), help="whose step times")
    add("--step-ms", type=number(float, 1e-3), help="your step time on one device")
    add("--batch-size", type=number(int, 1), help="the images of that step")
    add("--precision", default="", help="level that decides the size of the gradients")
    add("--devices", type=whole_numbers, default=DEVICES)
    add("--global-batch", type=number(int, 1), help="shared by all devices")
    add("--seed", type=number(int, 0), default=SEED)
    add("--inputs", type=expanded, metavar="FILE")
    add("--markdown", metavar="FILE", type=lambda text: Path(expanded(text)))
    for field in dataclasses.fields(Cluster):
        whole = field.name in ("devices_per_node", "cores_per_device")
        kind = number(int, 1) if whole else number(float, 0 if field.name in MAY_BE_ZERO else 1e-9)
        add("--" + field.name.replace("_", "-"), type=kind, metavar="N")
    return parser


def main(arguments: Optional[List[str]] = None) -> None:
    """Print the table of each network, or update the tables of a document."""
    from benchmarks.scaling import networks, tables

    options = _parser().parse_args(arguments)
    if options.markdown:
        text = options.markdown.read_text(encoding="utf-8")
        write_atomic(options.markdown, tables.renewed(text))
        return
    inputs = read_inputs(options.inputs)
    values = {field.name: getattr(options, field.name) for field in dataclasses.fields(Cluster)}
    inputs.update({name: value for name, value in values.items() if value is not None})
    names = [options.network] if options.network else list(networks.DOCUMENTED)
    for name in names:
        if name not in networks.DOCUMENTED:
            raise UsageError(f"unknown network {name!r}; {nearest(name, networks.DOCUMENTED)}")
        workload = networks.workload(name, options.rates, options.precision)
        batch = options.batch_size or workload.batch_size
        seconds = options.step_ms / 1000 if options.step_ms else workload.step_seconds * batch / workload.batch_size
        workload = networks.with_step(workload, batch, seconds)
        machines = cluster(networks.image_size(name), inputs)
        rows = [row(workload, machines, count, options.global_batch, options.seed) for count in options.devices]
        sys.stdout.write(f"{name}, {batch} images in {1000 * seconds:.1f} ms on one device by itself\n\n")
        sys.stdout.write(steps_table(rows) + "\n")


if __name__ == "__main__":
    try:
        main()
    except UsageError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
