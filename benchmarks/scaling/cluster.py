"""The inputs of the scaling model, each with its default, its unit, and whether it is measured or assumed."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict

MEASURED_FILE = Path(__file__).with_name("measured.json")


def _input(value: float, unit: str, source: str, least: float = 1e-9) -> Any:
    """A field with its unit, its source and the least value that makes sense."""
    return dataclasses.field(default=value, metadata={"unit": unit, "source": source, "least": least})


@dataclass(frozen=True)
class Cluster:
    """The machines. Each field is an option of the command line."""

    decode_rate: float  # images per second and core, from file to cropped uint8; measured, see `cluster`
    devices_per_node: int = _input(8, "", "documented: the originals' machines", 1)
    node_gb_s: float = _input(30, "GB/s", "assumed: between two NPUs of a node; NVLink reaches 200 and more")
    node_us: float = _input(10, "µs", "assumed: latency of a message inside a node", 0)
    network_gbit: float = _input(100, "Gbit/s", "assumed: one card of a node, shared by its devices")
    network_us: float = _input(20, "µs", "assumed: latency of a message between nodes", 0)
    network_share: float = _input(0.85, "", "assumed: of the rate of the network that an all-reduce reaches")
    cores_per_device: int = _input(16, "", "documented: the default of --workers; an Atlas 800 has 24 cores", 1)
    shard_gb_s: float = _input(2, "GB/s", "assumed: per node, from shared storage or an object store")
    image_kb: float = _input(115.4, "kB", "documented: 147,897,477,120 bytes of the official tar, 1,281,167 images")
    spread: float = _input(0.02, "", "assumed: part of a step's time that varies between devices, exponentially", 0)
    forward_share: float = _input(1 / 3, "", "assumed: of a step; the backward pass has twice the multiply-adds", 0)
    fixed_share: float = _input(0.1, "", "assumed: of a step at the recipe's batch, independent of the batch", 0)


def cluster(image_size: int, inputs: Dict[str, float]) -> Cluster:
    """The defaults with these inputs, and the decode rate measured at the nearest image size."""
    rates = measured()["images_per_second_and_core"]
    nearest = min(rates, key=lambda size: abs(int(size) - image_size))
    return Cluster(**{"decode_rate": rates[nearest]["median"], **inputs})  # type: ignore[arg-type]


def measured() -> Dict[str, Any]:
    """The decode rates of one core with their origin, which inputs.py has measured."""
    return json.loads(MEASURED_FILE.read_text(encoding="utf-8"))
