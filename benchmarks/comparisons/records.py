"""The record of a training, and what the trainings of a side say together."""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from benchmarks.comparisons.plan import Comparison
from benchmarks.comparisons.training import Training
from shared.errors import UsageError, reason
from shared.system.atomic_files import write_atomic
from shared.system.strict_json import typed


@dataclasses.dataclass(frozen=True)
class Trained:
    """A finished training. `top1` is of its last epoch, in percent; `seconds` are of all sittings."""

    comparison: str
    side: str
    seed: int
    options: Tuple[str, ...]
    dataset: str
    images_trained: int
    images_evaluated: int
    epochs: int
    top1: float
    parameters: int
    seconds: float
    images_per_second: float
    precision: str
    device: str
    machine: str
    versions: Dict[str, str]
    commit: str  # of each sitting that had another one, in their order, with blanks between
    date: str  # when it began, UTC, ISO 8601
    layers: str = ""
    tiny: bool = False


def record_of(training: Training, result: Mapping[str, Any], tiny: bool) -> Trained:
    """From the program's own record of the run."""
    return Trained(
        training.comparison.name,
        training.side.name,
        training.seed,
        training.options,
        result["dataset"]["name"],
        result["images_trained"],
        result["evaluation"]["images"],
        result["epochs_completed"],
        result["evaluation"]["top1"],
        result.get("parameters", 0),
        result["seconds"],
        result.get("throughput", {}).get("images_per_second", 0.0),
        result["precision"],
        result["device"]["name"],
        result.get("machine", ""),
        result["versions"],
        " ".join([*result.get("earlier_commits", ()), result.get("commit", "")]),
        result["started"],
        result.get("layers", ""),
        tiny,
    )


def path_of(training: Training, folder: Path) -> Path:
    """Where its record is."""
    return folder / f"accuracy-{training.folder.name}.json"


def write(record: Trained, path: Path) -> None:
    """Raises UsageError where it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(dataclasses.asdict(record), indent=1, ensure_ascii=False) + "\n")
    except OSError as error:
        raise UsageError(f"cannot write {path} ({reason(error)}); choose another --records") from error


def read(path: Path) -> Trained:
    """Raises UsageError for a file that is no record of a training."""
    try:
        return typed(Trained, json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} is no record of a training ({error}); remove it") from error


def read_all(folder: Path) -> List[Trained]:
    """All records in a folder, in the order of their names."""
    return [read(path) for path in sorted(folder.glob("accuracy-*.json"))]


def earlier(training: Training, folder: Path) -> Optional[Trained]:
    """Its record of before. Raises UsageError where that is of other settings."""
    path = path_of(training, folder)
    if not path.exists():
        return None
    found = read(path)
    if found.options != training.options:
        raise UsageError(f"{path} is of another recipe than the one that is compared now; move it away")
    layers = training.settings.get("layers", "")
    if layers and found.layers != layers:
        raise UsageError(
            f"{path} is of --layers {found.layers} and not {layers}; move it away, or name other --records"
        )
    return found


# -- statistics --------------------------------------------------------------------------------------------------------


def deviation(values: Sequence[float]) -> Optional[float]:
    """The sample standard deviation; None of a single value."""
    return statistics.stdev(values) if len(values) > 1 else None


def in_deviations(first: Sequence[float], second: Sequence[float]) -> Optional[float]:
    """By how many standard deviations of a training the mean of `second` is larger.

    Of a training: the root of the mean of both variances. None where a side has a single value; infinite where nothing
    varies within two sides that differ.
    """
    one, other = deviation(first), deviation(second)
    if one is None or other is None:
        return None
    difference, pooled = statistics.mean(second) - statistics.mean(first), math.sqrt((one**2 + other**2) / 2)
    return difference / pooled if pooled else math.copysign(math.inf, difference) if difference else 0.0


def by_side(comparison: Comparison, records: Sequence[Trained]) -> Dict[str, List[Trained]]:
    """The records of each side, in the order of the sides and seeds.

    Raises UsageError where one is of another recipe, or where they cannot be compared.
    """
    found: Dict[str, List[Trained]] = {side.name: [] for side in comparison.sides}
    for record in sorted(records, key=lambda one: one.seed):
        if record.comparison == comparison.name and record.side in found:
            found[record.side].append(record)
            side = comparison.side(record.side)
            recipe = side.recipe.override(precision=record.precision)
            if (*dataclasses.replace(side, recipe=recipe).options, f"--seed={record.seed}") != record.options:
                what = f"the record of {record.comparison}, {record.side}, seed {record.seed} is of another recipe"
                raise UsageError(f"{what} than the one that is compared now; move it away")
    trained = [record for of_side in found.values() for record in of_side]
    for what, values in (
        ("data sets", {(record.dataset, record.images_evaluated) for record in trained}),
        ("precisions", {record.precision for record in trained}),
        ("layer sets", {record.layers for record in trained}),
        ("sizes", {record.tiny for record in trained}),
    ):
        if len(values) > 1:
            raise UsageError(f"the records of {comparison.name} are of several {what}; move away those of one")
    return found
