"""The rows of the results tables: documented, measured and not yet measured."""

from __future__ import annotations

import dataclasses
import re
import statistics
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Tuple

from shared import recipes
from shared.results.documented import ROWS, Documented

Record = Dict[str, Any]


@dataclass(frozen=True)
class Row:
    """One row of a table; None is unknown. Accuracies in percent, times as named."""

    network: str
    dataset: str
    kind: str  # documented, measured or not measured
    settings: Optional[str] = None
    hardware: Optional[str] = None
    precision: Optional[str] = None
    batch_size: Optional[int] = None
    epochs: Optional[int] = None
    steps: Optional[int] = None
    top1: Optional[float] = None
    top1_std: Optional[float] = None
    top5: Optional[float] = None
    top5_std: Optional[float] = None
    images_per_second: Optional[float] = None
    step_ms: Optional[float] = None
    hours: Optional[float] = None
    images_evaluated: Optional[int] = None
    runs: Optional[int] = None
    source: Optional[str] = None  # title of the document, or measured commit
    footnotes: Tuple[str, ...] = ()


def rows(records: Sequence[Record]) -> List[Row]:
    """For each network and data set the documented rows, the measured rows and the recipes not yet measured."""
    documented = [_documented(row) for row in ROWS]
    measured = [_measured(runs) for runs in _repeated(records)]
    tables = list(dict.fromkeys((row.network, row.dataset) for row in documented + measured))
    return [
        row
        for table in tables
        for row in documented + measured + _not_measured(*table, records=records)
        if (row.network, row.dataset) == table
    ]


def beside_documented(record: Record) -> List[Row]:
    """The table shown at the end of a run: the documented rows of its half's data set, and its own."""
    dataset = "cifar-10" if record["half"] == "tf_seresnet" else "imagenet"
    documented = [_documented(row) for row in ROWS if row.dataset == dataset]
    if record["half"] == "torch_imagenet":
        documented = [row for row in documented if row.network == record.get("network")]
    # One table, even if the run's data set is another one: the numbers are to be compared.
    measured = _measured([record])
    settings = measured.settings or ""
    if measured.dataset != dataset:
        settings += f", on {measured.dataset}"
    network = documented[0].network if documented else measured.network
    return [*documented, dataclasses.replace(measured, network=network, dataset=dataset, settings=settings)]


def _documented(row: Documented) -> Row:
    hardware = row.hardware if row.devices is None else f"{row.devices} x {row.hardware}"
    if row.framework:
        hardware += ", " + row.framework
    names = [field.name for field in dataclasses.fields(Row) if hasattr(row, field.name)]
    values: Dict[str, Any] = {name: getattr(row, name) for name in names}
    settings = ": ".join(part for part in (row.recipe, row.schedule) if part) or None
    values.update(kind="documented", settings=settings, hardware=hardware)
    return Row(**values)


def _repeated(records: Sequence[Record]) -> List[List[Record]]:
    """The records with a throughput or an accuracy, in groups that differ at most in the seed."""
    groups: Dict[Tuple[Any, ...], List[Record]] = {}
    for record in records:
        if "evaluation" not in record and "throughput" not in record:
            continue
        row = dataclasses.asdict(_measured([record]))
        settings = ("network", "dataset", "settings", "hardware", "precision", "batch_size", "epochs")
        key = [row[name] for name in settings] + [record.get("dataset", {}).get("fingerprint")]
        key += [record.get(name) for name in ("half", "machine", "steps_completed", "variant", "layers")]
        groups.setdefault(tuple(key), []).append(record)
    return list(groups.values())


def _measured(runs: Sequence[Record]) -> Row:
    """The row of a run and its repetitions: means, and the sample standard deviation of the accuracies."""
    first = runs[0]
    device = first.get("device", {})
    hardware = re.sub(r"\((R|TM)\)| CPU\b| @.*|\d+-Core Processor", "", device.get("name", ""), flags=re.IGNORECASE)

    def values(part: str, key: str) -> List[float]:
        return [run[part][key] for run in runs if key in run.get(part, {})]

    top1, top5 = values("evaluation", "top1"), values("evaluation", "top5")
    images = values("evaluation", "images")
    trained = first["mode"] in ("train", "finetune")
    epochs = first.get("epochs_completed") if trained else None
    return Row(
        network=_family(first),
        dataset=first.get("dataset", {}).get("name", "no data set"),
        kind="measured",
        settings=_settings(runs),
        hardware=f"{device.get('count', 1)} x {' '.join(hardware.split())}" if hardware else None,
        precision=first.get("precision"),
        batch_size=first.get("global_batch_size"),
        epochs=epochs,
        steps=first.get("steps_completed") if trained and not epochs else None,
        top1=_mean(top1),
        top1_std=_deviation(top1),
        top5=_mean(top5),
        top5_std=_deviation(top5),
        images_per_second=_mean(values("throughput", "images_per_second")),
        step_ms=_mean(values("throughput", "step_ms_p50")),
        hours=_mean([run["seconds"] / 3600 for run in runs]) if trained else None,
        images_evaluated=int(images[0]) if images else None,
        runs=len(runs),
        source=first.get("commit"),
    )


def _family(record: Record) -> str:
    """The network whose table shows a record: on CIFAR-10, SE-ResNets of any depth share one."""
    if record["half"] == "tf_seresnet" and record.get("dataset", {}).get("name") == "cifar-10":
        return "se_resnet110"
    return str(record.get("network", "no network"))


def _settings(runs: Sequence[Record]) -> str:
    first = runs[0]
    parts = [first["recipe"] if "recipe" in first else first.get("network", "")]
    parts += [first["mode"]] if first["mode"] != "train" else []
    parts += [f"depth {first['depth']}"] if first.get("depth", 110) != 110 else []
    parts += [first["variant"]] if first.get("variant", "port") != "port" else []
    parts += [first["layers"]] if first.get("layers", "core") != "core" else []
    parts += [first["schedule"]] if _other_schedule(first) else []
    parts += [f"{first['image_size']} px"] if _other_image_size(first) else []
    if first["mode"] == "benchmark":  # the settings that benchmarks compare
        parts += [first["memory_format"].replace("_", " ")] if "memory_format" in first else []
        parts += ["compiled"] if first.get("compiled") else []
    if len(runs) > 1:
        seeds = {run.get("seed") for run in runs}
        parts.append(f"{len(runs)} {'seeds' if len(seeds) == len(runs) else 'runs'}")
    return ", ".join(parts)


def _other_schedule(record: Record) -> bool:
    """Whether the run's learning-rate schedule was not its recipe's."""
    name = record.get("recipe", "")
    return name in recipes.names() and record.get("schedule") not in (None, recipes.get(name).schedule.describe())


def _other_image_size(record: Record) -> bool:
    """Whether the run's image size was not its recipe's."""
    name = record.get("recipe", "")
    return name in recipes.names() and record.get("image_size") not in (
        None,
        getattr(recipes.get(name), "image_size", None),
    )


def _not_measured(network: str, dataset: str, records: Sequence[Record]) -> List[Row]:
    """A row for each documented recipe without a complete run."""
    here = [row for row in ROWS if (row.network, row.dataset) == (network, dataset)]
    of_network = [record for record in records if _family(record) == network]
    open_recipes = [
        row.recipe for row in here if row.recipe and not any(_completes(record, row) for record in of_network)
    ]
    return [Row(network, dataset, "not measured", name) for name in dict.fromkeys(open_recipes)]


def _completes(record: Record, row: Documented) -> bool:
    """Whether the run is the complete documented recipe on the documented data set."""
    return (
        record["mode"] == "train"
        and record.get("recipe") == row.recipe
        and "evaluation" in record
        and record.get("dataset", {}).get("name") == row.dataset
        and record.get("variant", "port") == "port"
        and record.get("depth", 110) == 110
        and not _other_schedule(record)
        and not _other_image_size(record)
        and record.get("global_batch_size") == row.batch_size
        and record.get("epochs_completed", 0) >= (row.epochs or 0)
    )


def _mean(values: Sequence[float]) -> Optional[float]:
    return statistics.mean(values) if values else None


def _deviation(values: Sequence[float]) -> Optional[float]:
    return statistics.stdev(values) if len(values) > 1 else None
