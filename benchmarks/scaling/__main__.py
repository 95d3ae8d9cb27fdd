"""Scaling model, from one device to 1,024: the duration of a training step, its waiting times, and what limits it.

    python benchmarks/scaling/__main__.py [--network senet154] [--step-ms 640 --batch-size 128] [--devices 1,8,64,1024]
        [--rates ascend910] [--precision O2] [--global-batch 8192] [--cores-per-device 12] [--network-gbit 100] ...
    python benchmarks/scaling/__main__.py --markdown docs/scaling.md

Every quantity in docs/scaling.md's table of inputs has an option. The batch per device is the recipe's, or its share of
--global-batch. --markdown FILE instead updates the tables between the marks of a document. Needs torch, to count the
gradients of the networks.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import List, Optional

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.scaling import networks, tables  # noqa: E402
from benchmarks.scaling.cluster import Cluster, cluster  # noqa: E402
from benchmarks.scaling.model import step  # noqa: E402
from shared.cli.parser import Parser, number, one_of, whole_numbers  # noqa: E402
from shared.errors import UsageError  # noqa: E402
from shared.system.atomic_files import write_atomic  # noqa: E402
from shared.system.paths import expanded  # noqa: E402


def _parser() -> Parser:
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add("--network", type=one_of(*networks.DOCUMENTED), help="default: all three")
    add("--rates", default="ascend910", type=one_of(*networks.RATES), help="whose step times")
    add("--step-ms", type=number(float, 1e-3), help="your step time on one device")
    add("--batch-size", type=number(int, 1), help="the images of that step")
    add("--precision", default="", help="level that decides the size of the gradients")
    add("--devices", type=whole_numbers, default=tables.DEVICES)
    add("--global-batch", type=number(int, 1), help="shared by all devices")
    add("--markdown", metavar="FILE", type=lambda text: Path(expanded(text)))
    for field in dataclasses.fields(Cluster):
        kind = number(int if field.type == "int" else float, field.metadata.get("least", 1e-9))
        add("--" + field.name.replace("_", "-"), type=kind, metavar="N", default=argparse.SUPPRESS)
    return parser


def main(argv: Optional[List[str]] = None) -> None:
    """Print the table of each network, or update the tables of a document."""
    options = _parser().parse_args(argv)
    if options.markdown:
        write_atomic(options.markdown, tables.renewed(options.markdown.read_text(encoding="utf-8")))
        return
    inputs = {field.name: vars(options)[field.name] for field in dataclasses.fields(Cluster) if field.name in options}
    for name in [options.network] if options.network else networks.DOCUMENTED:
        workload = networks.workload(name, options.rates, options.precision)
        batch = options.batch_size or workload.batch_size
        seconds = options.step_ms / 1000 if options.step_ms else workload.step_seconds * batch / workload.batch_size
        workload = dataclasses.replace(workload, batch_size=batch, step_seconds=seconds)
        machines = cluster(networks.recipe(name).image_size, inputs)
        steps = [step(workload, machines, devices, options.global_batch) for devices in options.devices]
        sys.stdout.write(f"{name}, {batch} images in {1000 * seconds:.1f} ms on one device by itself\n\n")
        sys.stdout.write(tables.steps_table(steps) + "\n")


if __name__ == "__main__":
    try:
        main()
    except UsageError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
