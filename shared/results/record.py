"""`result.json`, the record of a run: built, validated, written atomically, read and published.

A part that a mode does not have is left out, never zero. NaN is an error. Accuracies are percent, times seconds or
milliseconds as named, counts images.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any, Dict, Optional, Sequence, Union

import numpy as np

from shared.class_names import Match
from shared.errors import UsageError
from shared.metrics import Metrics
from shared.results.course import KEPT
from shared.results.rows import beside_documented
from shared.results.tables import render
from shared.run.log import RunLog
from shared.system.atomic_files import make_folder, write_atomic
from shared.system.paths import is_elsewhere
from shared.system.strict_json import COUNT, NUMBER, PERCENT, SHARE, TEXT, TIME, Kind, check
from shared.text import decoded

SCHEMA = 1
# What a record must have, always and by mode.
_ALWAYS = ("schema", "half", "mode", "versions", "started", "seconds")
_NETWORK = ("network", "device.kind", "device.name", "device.count")
_TRAINING = _NETWORK + tuple(
    "dataset.name precision batch_size global_batch_size epochs_completed steps_completed images_trained".split()
)
_REQUIRED_BY_MODE = {
    "train": _TRAINING,
    "finetune": _TRAINING,
    "profile": _NETWORK,
    "check-port": _NETWORK,
    "evaluate": _NETWORK + ("dataset.name", "evaluation.images", "evaluation.loss", "evaluation.top1"),
    "benchmark": _NETWORK + ("throughput.images_per_second",),
}


def _is_list(value: Any, kind: Kind, null: bool = False) -> bool:
    return isinstance(value, list) and all(null if item is None else kind.accepts(item) for item in value)


def _is_reliability(value: Any) -> bool:
    """Lists of equal length, an entry per bin of confidence; null where a bin has no images."""
    if not isinstance(value, dict) or set(value) != {"images", "confidence", "accuracy"}:
        return False
    percents = all(_is_list(value[name], PERCENT, null=True) for name in ("confidence", "accuracy"))
    return percents and _is_list(value["images"], COUNT) and len({len(column) for column in value.values()}) == 1


_ANY_TEXT = Kind(lambda value: isinstance(value, str), "a text")
_NAMES = Kind(lambda value: bool(value) and _is_list(value, _ANY_TEXT), "names")
_SQUARE = Kind(
    lambda value: isinstance(value, list) and all(_is_list(row, COUNT) and len(row) == len(value) for row in value),
    "a square matrix of counts",
)
_THROUGHPUT = {
    "images_per_second": NUMBER,
    "step_ms_p50": NUMBER,
    "step_ms_p95": NUMBER,
    "data_wait_share": SHARE,
    "steps_timed": COUNT,
}

# All keys, in the order of a record; a nested dictionary is a part.
_SHAPE: Dict[str, Any] = {
    "schema": Kind(lambda value: value == SCHEMA and value is not True, str(SCHEMA)),
    "half": TEXT,
    "mode": Kind(lambda value: value in tuple(_REQUIRED_BY_MODE), "a mode with a record"),
    "network": TEXT,
    "recipe": TEXT,
    "depth": COUNT,
    "variant": TEXT,
    "layers": TEXT,
    "seed": COUNT,
    "schedule": TEXT,
    "changes": Kind(lambda value: _is_list(value, TEXT), "a list of texts"),
    "image_size": COUNT,
    "normalisation": TEXT,
    "zero_pad": bool,
    "keep_aspect": bool,
    "dataset": {
        "name": TEXT,
        "path": TEXT,
        "train_images": COUNT,
        "eval_images": COUNT,
        "fingerprint": TEXT,
        "classes": _NAMES,
    },
    "device": {"kind": TEXT, "name": TEXT, "count": COUNT},
    "machine": TEXT,
    "precision": TEXT,
    "memory_format": TEXT,
    "compiled": bool,
    "decoder": TEXT,
    "compile_mode": TEXT,
    "steps_per_call": COUNT,
    **dict.fromkeys(
        "batch_size global_batch_size epochs_completed steps_completed images_trained bad_images".split(), COUNT
    ),
    "throughput": _THROUGHPUT,
    "forward": _THROUGHPUT,
    "peak_memory": COUNT,
    "train": {"loss": NUMBER, "top1": PERCENT, "top5": PERCENT},
    "evaluation": {
        "images": COUNT,
        "skipped": COUNT,
        "loss": NUMBER,
        "top1": PERCENT,
        "top5": PERCENT,
        "checkpoint": TEXT,
        "checkpoint_sha256": TEXT,
        "classes": _NAMES,
        "restricted": bool,
        "expected_calibration_error": PERCENT,
        "reliability": Kind(_is_reliability, "images, confidence and accuracy of as many bins each"),
        "per_class_accuracy": Kind(lambda value: _is_list(value, PERCENT, null=True), "a list of percentages"),
        "confusion": _SQUARE,
    },
    "best": {"epoch": COUNT, "top1": PERCENT},
    **KEPT,
    "parameters": COUNT,
    "versions": Dict[str, str],
    "commit": TEXT,
    "started": TIME,
    "seconds": NUMBER,
    "begun_on": _NAMES,
    "earlier_commits": _NAMES,
}


def build_record(*, half: str, mode: str, **parts: Any) -> Dict[str, Any]:
    """The record of a run from its parts, the keys of `_SHAPE`. None, at either level, is left out.

    NumPy numbers and arrays become Python's; nan in `per_class_accuracy` (no images) becomes null. Raises UsageError if
    the record is invalid.
    """
    parts = dict(parts, schema=SCHEMA, half=half, mode=mode)
    ordered = [key for key in _SHAPE if key in parts] + [key for key in parts if key not in _SHAPE]
    record = {key: _plain(parts[key], key) for key in ordered if parts[key] is not None}
    record = {key: value for key, value in record.items() if value != {}}
    validate(record, "result.json")
    return record


def evaluation_part(
    metrics: Metrics, checkpoint: Optional[str] = None, skipped: int = 0, sha256: Optional[str] = None
) -> Dict[str, Any]:
    """The `evaluation` part of a record; `skipped` images could not be read, `sha256` is of a checkpoint in a file."""
    names = "images loss top1 top5 expected_calibration_error reliability per_class_accuracy confusion".split()
    part = {name: getattr(metrics, name) for name in names}
    return {**part, "skipped": skipped or None, "checkpoint": checkpoint, "checkpoint_sha256": sha256}


def evaluated_classes(match: Match, data_classes: Sequence[str]) -> Dict[str, Any]:
    """The classes of `confusion` and `per_class_accuracy` in the `evaluation` part of a record.

    They are the network's, in its order; None where those are the data set's.
    """
    return {
        "classes": list(match.names) if match.names != tuple(data_classes) else None,
        "restricted": True if match.columns is not None else None,
    }


def evaluation_line(metrics: Metrics, skipped: int = 0) -> str:
    """The line of the log about an evaluation: percent, nats, images counted, and images skipped as unreadable."""
    left_out = f", {skipped} of {metrics.images + skipped} could not be read and are not counted" if skipped else ""
    return (
        f"test: top-1 {metrics.top1:.3f} % (error {100 - metrics.top1:.3f} %), top-5 {metrics.top5:.3f} %,"
        f" loss {metrics.loss:.4f} on {metrics.images} images{left_out}"
    )


def write_record(path: Union[str, Path], record: Dict[str, Any], advice: str = "choose another --output-dir") -> None:
    """Validate the record and write it atomically, one key per line.

    Raises UsageError if it is invalid or, with the `advice`, if it cannot be written.
    """
    validate(record, str(path))
    lines = [f'  "{key}": {json.dumps(value, ensure_ascii=False, allow_nan=False)}' for key, value in record.items()]
    try:
        write_atomic(path, "{\n" + ",\n".join(lines) + "\n}\n")
    except OSError as error:
        raise UsageError(f"cannot write {path} ({error.strerror or error}); {advice}") from error


def finish(
    log: RunLog, folder: Path, record: Dict[str, Any], metrics: Metrics, advice: str = "choose another --output-dir"
) -> None:
    """Write the record, and a run's last lines: the counts, where the record is, the documented rows above its own.

    Raises UsageError with the `advice` where the record cannot be written.
    """
    write_record(folder / "result.json", record, advice)
    log.succeeded()
    trained, tested = record.get("bad_images", 0), record["evaluation"].get("skipped", 0)
    if trained or tested:
        log.line(f"bad images left out: {trained} in training, {tested} in the evaluation")
    log.line(evaluation_line(metrics, tested))
    log.line(f"record: {folder / 'result.json'}")
    log.line("\n" + render(beside_documented(record)).rstrip())


def read_record(path: Union[str, Path]) -> Dict[str, Any]:
    """Read and validate a record. Raises UsageError with file and key if it is missing, damaged or invalid."""
    try:
        record = json.loads(decoded(Path(path).read_bytes()))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"cannot read {path} ({reason}); name a run's folder or its result.json") from error
    validate(record, str(path))
    return dict(record)


def publish(record: Dict[str, Any], folder: Path) -> Path:
    """Write the record under `folder`, to be committed: `publishable`, and named after the run.

    Returns the file. Raises UsageError if the run's code was not committed or the file exists.
    """
    record = publishable(record)
    parts = [record.get("network"), record.get("variant"), record["dataset"]["name"], record["device"]["kind"]]
    stamp = record["started"][:16].replace(":", "")
    target = make_folder(folder / record["half"]) / ("-".join(filter(None, [*parts, record["mode"], stamp])) + ".json")
    if target.exists():
        known = read_record(target) == record
        wrong = "is there already, and this run has been published" if known else "holds another record"
        raise UsageError(f"{target} {wrong}; remove it to put this one in its place")
    write_record(target, record)
    return target


def publishable(record: Dict[str, Any]) -> Dict[str, Any]:
    """The record without paths of the machine. Raises UsageError if the run's code was not committed."""
    for revision in (record.get("commit", ""), *record.get("earlier_commits", ())):
        if not revision or revision.endswith("-dirty"):
            raise UsageError(
                f"the run's code is not a commit ({revision or 'unknown'}); commit, run again, then publish"
            )
    record = dict(record)
    for part, key, levels in (("dataset", "path", 1), ("evaluation", "checkpoint", 2)):
        if key in record.get(part, {}) and not is_elsewhere(record[part][key]):
            last = Path(record[part][key]).parts[-levels:]
            record[part] = dict(record[part], **{key: os.path.join(*last)})
    return record


def validate(record: Any, name: str) -> None:
    """Raise UsageError with `name` and the first key that is unknown, missing, mistyped or out of range."""
    advice = "name the result.json that a run wrote"
    if not isinstance(record, dict) or "schema" not in record:
        raise UsageError(f"{name} is not a record; {advice}")
    try:
        check(record, _SHAPE, (*_ALWAYS, *_REQUIRED_BY_MODE.get(str(record.get("mode")), ())))
    except ValueError as error:
        raise UsageError(f"{name}: {error}; {advice}") from error


def _plain(value: Any, key: str) -> Any:
    """The value in Python's types, without the Nones of a part."""
    if isinstance(value, dict):
        return {inner: _plain(item, inner) for inner, item in value.items() if item is not None}
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if key == "per_class_accuracy":
        return [None if isinstance(item, float) and math.isnan(item) else item for item in value]
    return list(value) if isinstance(value, tuple) else value
