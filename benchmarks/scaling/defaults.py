"""The inputs of the scaling model, each with its source: measured, documented or assumed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, NamedTuple

MEASURED_FILE = Path(__file__).with_name("measured.json")
STATUSES = ("measured", "documented", "assumed")


class Input(NamedTuple):
    """A value, its unit, its status and its source."""

    value: float
    unit: str
    status: str
    source: str


DEFAULTS: Dict[str, Input] = {
    "devices_per_node": Input(8, "", "documented", "the originals' machines"),
    "node_gb_s": Input(30, "GB/s", "assumed", "between two NPUs of a node; NVLink reaches 200 and more"),
    "node_us": Input(10, "µs", "assumed", "latency of a message inside a node"),
    "network_gbit": Input(100, "Gbit/s", "assumed", "one card of a node, shared by its devices"),
    "network_us": Input(20, "µs", "assumed", "latency of a message between nodes"),
    "network_share": Input(0.85, "", "assumed", "of the rate of the network that an all-reduce reaches"),
    "cores_per_device": Input(16, "", "documented", "the default of --workers; an Atlas 800 has 24 cores"),
    "shard_gb_s": Input(2, "GB/s", "assumed", "per node, from shared storage or an object store"),
    "image_kb": Input(115.4, "kB", "documented", "147,897,477,120 bytes of ILSVRC2012_img_train.tar, 1,281,167 images"),
    "spread": Input(0.02, "", "assumed", "part of a step's time that varies between devices, exponentially"),
    "forward_share": Input(1 / 3, "", "assumed", "of a step; the backward pass has twice the multiply-adds"),
    "fixed_share": Input(0.1, "", "assumed", "of a step at the recipe's batch, independent of the batch"),
    "write_gb_s": Input(0.5, "GB/s", "assumed", "rate at which one rank writes a checkpoint"),
}


def measured() -> Dict[str, Any]:
    """The content of measured.json, which inputs.py writes."""
    content: Dict[str, Any] = json.loads(MEASURED_FILE.read_text(encoding="utf-8"))
    return content


def decode_rate(image_size: int) -> float:
    """Images per second and core, measured at the nearest image size."""
    rates = measured()["decode"]["images_per_second_and_core"]
    size = min(rates, key=lambda size: abs(int(size) - image_size))
    return float(rates[size]["median"])
