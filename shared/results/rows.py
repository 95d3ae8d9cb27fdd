"""The rows of the results tables: documented, measured, expected and not yet measured."""

from __future__ import annotations

import dataclasses
import re
import statistics
from typing import Any, Dict, List, Optional, Sequence, Tuple

from shared import recipes
from shared.recipes.base import as_typed
from shared.recipes.imagenet import ImageNetRecipe, elsewhere
from shared.results.documented import EXPECTED_NOTE, ROWS, Expected, Row

Record = Dict[str, Any]


def rows(records: Sequence[Record]) -> List[Row]:
    """For each network and data set the documented rows, the measured, the expected, and one of what is to measure."""
    missing: Dict[Tuple[str, str], Dict[str, None]] = {}
    for row in ROWS:
        if row.recipe and not any(_completes(record, row) for record in records):
            missing.setdefault((row.network, row.dataset), {})[row.recipe] = None
    not_measured = [Row(*where, "not measured", ", ".join(names)) for where, names in missing.items()]
    all_rows = [*ROWS, *map(_measured, _repeated(records)), *_expected(), *not_measured]
    tables = dict.fromkeys((row.network, row.dataset) for row in all_rows)
    return [row for table in tables for row in all_rows if (row.network, row.dataset) == table]


def _expected() -> List[Row]:
    """The modern recipes with what is expected of them."""
    found = []
    for name, (least, most) in recipes.expected().items():
        recipe = recipes.get(name)
        is_cifar = recipe.network == "se_resnet110"
        row = Row(
            recipe.network,
            "cifar-10" if is_cifar else "imagenet",
            "expected",
            name,
            batch_size=recipe.batch_size * getattr(recipe, "devices", 1),
            epochs=recipe.epochs,
            top1=Expected(least, most),
            error=Expected(100 - most, 100 - least) if is_cifar else None,
            footnotes=(EXPECTED_NOTE,),
            recipe=name,
        )
        found.append(row)
    return found


def has_row(record: Record) -> bool:
    """Whether the tables show it: a run without accuracy and throughput has nothing to show there."""
    return "evaluation" in record or "throughput" in record


def beside_documented(record: Record) -> List[Row]:
    """The table shown at the end of a run: the documented rows of its half's data set, the expected one, its own."""
    measured = _measured([record])
    # One table, even if the run's data set is another one: the numbers are to be compared.
    cifar = record["half"] == "tf_seresnet"
    network, dataset = ("se_resnet110", "cifar-10") if cifar else (measured.network, "imagenet")
    documented = [row for row in ROWS if (row.network, row.dataset) == (network, dataset)]
    documented += [row for row in _expected() if row.recipe == record.get("recipe") and row.network == network]
    settings = (measured.settings or "") + ("" if measured.dataset == dataset else f", on {measured.dataset}")
    return [*documented, dataclasses.replace(measured, network=network, dataset=dataset, settings=settings)]


def _repeated(records: Sequence[Record]) -> List[List[Record]]:
    """The records with a throughput or an accuracy, in groups that differ at most in the seed."""
    groups: Dict[Tuple[Any, ...], List[Record]] = {}
    for record in records:
        if not has_row(record):
            continue
        row = _measured([record])
        key = [row.network, row.dataset, row.settings, row.hardware, row.precision, row.batch_size, row.epochs]
        key += [record.get("dataset", {}).get("fingerprint"), record.get("steps_per_call"), *record.get("begun_on", ())]
        if record["mode"] == "evaluate":
            key += [record["evaluation"].get(name) for name in ("checkpoint", "checkpoint_sha256", "restricted")]
        key += [record.get(name) for name in ("half", "machine", "steps_completed", "variant", "layers")]
        groups.setdefault(tuple(key), []).append(record)
    return list(groups.values())


def _measured(runs: Sequence[Record]) -> Row:
    """The row of a run and its repetitions: means, and the sample standard deviation of the accuracies."""
    first = runs[0]

    def values(part: str, key: str) -> List[float]:
        return [run[part][key] for run in runs if key in run.get(part, {})]

    top1, top5, images = (values("evaluation", key) for key in ("top1", "top5", "images"))
    trained = first["mode"] in ("train", "finetune")
    epochs = first.get("epochs_completed") if trained else None
    return Row(
        network=_family(first),
        dataset=first.get("dataset", {}).get("name", "no data set"),
        kind="measured",
        settings=_settings(runs),
        hardware=_hardware(first),
        precision=first.get("precision"),
        batch_size=first.get("global_batch_size"),
        epochs=epochs,
        steps=first.get("steps_completed") if trained and not epochs else None,
        top1=_mean(top1),
        top1_std=_deviation(top1),
        error=100 - statistics.mean(top1) if top1 and _family(first) == "se_resnet110" else None,
        top5=_mean(top5),
        top5_std=_deviation(top5),
        images_per_second=_mean(values("throughput", "images_per_second")),
        step_ms=_mean(values("throughput", "step_ms_p50")),
        hours=_mean([run["seconds"] / 3600 for run in runs]) if trained else None,
        images_evaluated=int(images[0]) if images else None,
        runs=len(runs),
        source=first.get("commit"),
    )


def _hardware(record: Record) -> Optional[str]:
    """Devices, as in "8 x Ascend 910"; of a CPU with instructions and cores, for its name says little of its speed."""
    device = record.get("device", {})
    name = (record.get("machine") if device.get("kind") == "cpu" else None) or device.get("name", "")
    name = re.sub(r"\((R|TM)\)| CPU\b| @ [\d.]+ ?[GM]Hz| \d+-Core Processor", "", name, flags=re.IGNORECASE)
    return f"{device.get('count', 1)} x {' '.join(name.split())}" if name else None


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
    parts += _overridden(first)
    if first["mode"] == "benchmark":  # the settings that benchmarks compare
        parts += [first["memory_format"].replace("_", " ")] if "memory_format" in first else []
        mode = first.get("compile_mode", "default")
        parts += ["compiled" + (f" ({mode})" if mode != "default" else "")] if first.get("compiled") else []
    parts += ["answers restricted to the data set's classes"] if first.get("evaluation", {}).get("restricted") else []
    parts += ["images squeezed"] if first.get("keep_aspect") is False else []
    parts += ["begun on other hardware or threads"] if "begun_on" in first else []
    if len(runs) > 1:
        seeds = {run.get("seed") for run in runs}
        parts.append(f"{len(runs)} {'seeds' if len(seeds) == len(runs) else 'runs'}")
    return ", ".join(parts)


def _overridden(record: Record) -> List[str]:
    """The run's schedule, image size, normalisation, padding and other settings, if they were not its recipe's."""
    if record.get("recipe", "") not in recipes.names():
        return []
    recipe = recipes.get(record["recipe"])
    schedule, size = record.get("schedule"), record.get("image_size")
    parts = [schedule] if schedule not in (None, recipe.schedule.describe()) else []
    parts += [f"{size} px"] if size not in (None, getattr(recipe, "image_size", None)) else []
    for name in ("normalisation", "zero_pad"):
        own = getattr(recipe, name, None)
        parts += [as_typed(name, record[name])[2:]] if record.get(name, own) != own else []
    return [*parts, *record.get("changes", [])]


def _elsewhere(record: Record) -> List[str]:
    """As `_overridden`: the schedule that the run's recipe has on another device than an NPU."""
    recipe = recipes.get(record["recipe"])
    return [elsewhere(recipe).schedule.describe()] if isinstance(recipe, ImageNetRecipe) else []


def _completes(record: Record, row: Row) -> bool:
    """Whether the run is the complete documented recipe on the documented data set."""
    return (
        record["mode"] == "train"
        and record.get("recipe") == row.recipe
        and "evaluation" in record
        and (_family(record), record.get("dataset", {}).get("name")) == (row.network, row.dataset)
        and record.get("variant", "port") == "port"
        and record.get("depth", 110) == 110
        and _overridden(record) in ([], _elsewhere(record))
        and record.get("global_batch_size") == row.batch_size
        and record.get("epochs_completed", 0) >= (row.epochs or 0)
    )


def _mean(values: Sequence[float]) -> Optional[float]:
    return statistics.mean(values) if values else None


def _deviation(values: Sequence[float]) -> Optional[float]:
    return statistics.stdev(values) if len(values) > 1 else None
