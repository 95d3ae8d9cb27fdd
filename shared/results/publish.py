"""Copies the record of a run to results/, to be committed; the README's measured rows come from these files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Dict

from shared.errors import UsageError
from shared.results.record import write_record
from shared.system.atomic_files import make_folder


def publish(record: Dict[str, Any], folder: Path) -> Path:
    """Write the record under `folder`, named after the run, without paths of the machine. Returns the file.

    Raises UsageError if the run's code was not committed or the file exists.
    """
    commit = record.get("commit", "")
    if not commit or commit.endswith("-dirty"):
        raise UsageError(f"the run's code is not a commit ({commit or 'unknown'}); commit, run again, then publish")
    record = dict(record)
    for part, key, levels in (("dataset", "path", 1), ("evaluation", "checkpoint", 2)):
        if key in record.get(part, {}):
            last = Path(record[part][key]).parts[-levels:]
            record[part] = dict(record[part], **{key: os.path.join(*last)})
    parts = [record.get("network"), record.get("variant"), record["dataset"]["name"], record["device"]["kind"]]
    stamp = record["started"][:16].replace(":", "")
    target = make_folder(folder / record["half"]) / ("-".join(filter(None, [*parts, record["mode"], stamp])) + ".json")
    if target.exists():
        raise UsageError(f"{target} is there already; this run has been published")
    write_record(target, record)
    return target
