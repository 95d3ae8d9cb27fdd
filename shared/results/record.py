"""`result.json`, the record of a run: built, checked, written whole, read back.

A part that a mode does not have is left out, never zero. There is no NaN in a record: a number that is not
one is an error, not a result. Accuracies are percent, times seconds or milliseconds as named, counts images.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Union

import numpy as np

from shared.errors import UsageError
from shared.run.provenance import commit
from shared.system.atomic_files import write_atomic
from shared.text import closest, decoded

SCHEMA = 1
MODES = ("train", "evaluate", "finetune", "benchmark", "profile", "export", "check-data", "check-port")
Check = Callable[[Any], Optional[str]]  # what is wrong with the value, None if nothing


def _count(value: Any) -> Optional[str]:
    good = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return None if good else "is not a whole number of at least 0"


def _number(value: Any) -> Optional[str]:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return "is not a number"
    if not math.isfinite(value):
        return "is not a finite number"
    return None if value >= 0 else "is negative"


def _percent(value: Any) -> Optional[str]:
    return _number(value) or (None if value <= 100 else "is more than 100 percent")


def _share(value: Any) -> Optional[str]:
    return _number(value) or (None if value <= 1 else "is more than 1")


def _text(value: Any) -> Optional[str]:
    return None if isinstance(value, str) and value else "is not a text"


def _time(value: Any) -> Optional[str]:
    good = isinstance(value, str) and re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", value)
    return None if good else "is not a time in ISO 8601"


def _texts(value: Any) -> Optional[str]:
    good = isinstance(value, dict) and all(isinstance(text, str) for text in value.values())
    return None if good else "is not a table of texts"


def _names(value: Any) -> Optional[str]:
    good = isinstance(value, list) and value and all(isinstance(name, str) for name in value)
    return None if good else "is not a list of names"


def _truth(value: Any) -> Optional[str]:
    return None if isinstance(value, bool) else "is neither true nor false"


def _percents(value: Any) -> Optional[str]:
    """A list of percentages; null where a class has no images."""
    good = isinstance(value, list) and not any(item is not None and _percent(item) for item in value)
    return None if good else "is not a list of percentages"


def _square(value: Any) -> Optional[str]:
    good = isinstance(value, list) and all(isinstance(row, list) and len(row) == len(value) for row in value)
    if good and not any(_count(cell) for row in value for cell in row):
        return None
    return "is not a square table of counts"


def _reliability(value: Any) -> Optional[str]:
    """Columns of equal length, an entry a bin of confidence; null where a bin has no images."""
    good = isinstance(value, dict) and set(value) == {"images", "confidence", "accuracy"}
    if good and isinstance(value["images"], list) and not any(_count(count) for count in value["images"]):
        percents = [value["confidence"], value["accuracy"]]
        if all(not _percents(column) and len(column) == len(value["images"]) for column in percents):
            return None
    return "is not a table of images, confidence and accuracy of as many bins each"


def _mode(value: Any) -> Optional[str]:
    return None if value in MODES else f"is none of {', '.join(MODES)}"


def _schema(value: Any) -> Optional[str]:
    return None if value == SCHEMA and not isinstance(value, bool) else f"is not {SCHEMA}"


_THROUGHPUT: Dict[str, Check] = {
    "images_per_second": _number,
    "step_ms_p50": _number,
    "step_ms_p95": _number,
    "data_wait_share": _share,
    "steps_timed": _count,
}

# Every key there is, in the order in which a record shows them; a nested table is a part.
SHAPE: Dict[str, Union[Check, Dict[str, Check]]] = {
    "schema": _schema,
    "half": _text,
    "mode": _mode,
    "network": _text,
    "recipe": _text,
    "depth": _count,
    "variant": _text,
    "layers": _text,
    "seed": _count,
    "schedule": _text,
    "image_size": _count,
    "dataset": {
        "name": _text,
        "path": _text,
        "train_images": _count,
        "eval_images": _count,
        "fingerprint": _text,
        "classes": _names,
    },
    "device": {"kind": _text, "name": _text, "count": _count},
    "machine": _text,
    "precision": _text,
    "memory_format": _text,
    "compiled": _truth,
    "batch_size": _count,
    "global_batch_size": _count,
    "epochs_completed": _count,
    "steps_completed": _count,
    "images_trained": _count,
    "bad_images": _count,
    "throughput": _THROUGHPUT,
    "forward": _THROUGHPUT,
    "peak_memory": _count,
    "train": {"loss": _number, "top1": _percent, "top5": _percent},
    "evaluation": {
        "images": _count,
        "skipped": _count,
        "loss": _number,
        "top1": _percent,
        "top5": _percent,
        "checkpoint": _text,
        "classes": _names,
        "restricted": _truth,
        "expected_calibration_error": _percent,
        "reliability": _reliability,
        "per_class_accuracy": _percents,
        "confusion": _square,
    },
    "best": {"epoch": _count, "top1": _percent},
    "parameters": _count,
    "versions": _texts,
    "commit": _text,
    "started": _time,
    "seconds": _number,
}
_ALWAYS = ("schema", "half", "mode", "versions", "started", "seconds")
_NETWORK = ("network", "device.kind", "device.name", "device.count")
_TRAINING = _NETWORK + tuple(
    "dataset.name precision batch_size global_batch_size epochs_completed steps_completed images_trained".split()
)
_REQUIRED_BY_MODE = {
    "train": _TRAINING,
    "finetune": _TRAINING,
    "profile": _NETWORK,
    "export": ("network",),
    "check-port": (),
    "evaluate": _NETWORK + ("dataset.name", "evaluation.images", "evaluation.loss", "evaluation.top1"),
    "benchmark": _NETWORK + ("throughput.images_per_second",),
    "check-data": ("dataset.name",),
}


def build_record(*, half: str, mode: str, **parts: Any) -> Dict[str, Any]:
    """The record of a run from its parts, the keys of `SHAPE`. A None, at either level, is left out.

    numpy numbers and arrays become Python's; nan in `per_class_accuracy` (no images) becomes null. `commit`
    is filled in. Raises UsageError as `read_record` does.
    """
    parts = dict(parts, schema=SCHEMA, half=half, mode=mode)
    parts.setdefault("commit", commit())
    ordered = [key for key in SHAPE if key in parts] + [key for key in parts if key not in SHAPE]
    record = {key: _plain(parts[key], key) for key in ordered if parts[key] is not None}
    record = {key: value for key, value in record.items() if value != {}}
    validate(record, "result.json")
    return record


def write_record(path: Union[str, Path], record: Dict[str, Any], advice: str = "choose another --output-dir") -> None:
    """Check the record and write it in one piece, a key a line.

    Raises UsageError if it is invalid or, with the `advice`, if it cannot be written.
    """
    validate(record, str(path))
    lines = [
        f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False, allow_nan=False)}"
        for key, value in record.items()
    ]
    try:
        write_atomic(path, "{\n" + ",\n".join(lines) + "\n}\n")
    except OSError as error:
        raise UsageError(f"cannot write {path} ({error.strerror or error}); {advice}") from error


def read_record(path: Union[str, Path]) -> Dict[str, Any]:
    """The record in the file. Raises UsageError with file and key if it is missing, damaged or invalid."""
    try:
        record = json.loads(decoded(Path(path).read_bytes()))
    except OSError as error:
        raise UsageError(
            f"cannot read {path} ({error.strerror or error}); name a run's folder or its result.json"
        ) from error
    except ValueError as error:
        raise UsageError(f"{path} is not JSON ({error}); name the result.json that a run wrote") from error
    validate(record, str(path))
    return dict(record)


def validate(record: Any, name: str) -> None:
    """Raise UsageError with `name` and the first key that is unknown, missing, mistyped or out of range."""
    if not isinstance(record, dict) or "schema" not in record:
        raise UsageError(f"{name} is not a record; name the result.json that a run wrote")
    _validate_part(record, SHAPE, "", name)
    for key in _ALWAYS + _REQUIRED_BY_MODE[record.get("mode", "check-port")]:
        part, _, inner = key.partition(".")
        if part not in record or (inner and inner not in record[part]):
            raise UsageError(f"{name}: {key} is missing; a record of mode {record.get('mode')!r} needs it")


def _validate_part(part: Dict[str, Any], shape: Dict[str, Any], prefix: str, name: str) -> None:
    for key, value in part.items():
        if key not in shape:
            near = closest(str(key), shape)
            hint = f"did you mean {prefix}{near}?" if near else f"known keys: {', '.join(shape)}"
            raise UsageError(f"{name}: {prefix}{key} is not a key of a record; {hint}")
        check = shape[key]
        if isinstance(check, dict):
            if not isinstance(value, dict):
                raise UsageError(f"{name}: {prefix}{key} is not a table; it holds {', '.join(check)}")
            _validate_part(value, check, prefix + key + ".", name)
        elif check(value):
            raise UsageError(f"{name}: {prefix}{key} {check(value)}; it is {_short(value)}")


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else text[:57] + "..."


def _plain(value: Any, key: str) -> Any:
    """The value in Python's own types, without the Nones of a part."""
    if isinstance(value, dict):
        return {inner: _plain(item, inner) for inner, item in value.items() if item is not None}
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if key == "per_class_accuracy":
        return [None if isinstance(item, float) and math.isnan(item) else item for item in value]
    return list(value) if isinstance(value, tuple) else value
