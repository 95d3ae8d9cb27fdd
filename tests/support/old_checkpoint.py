"""A checkpoint that an earlier version has written, as the run that it belongs to, and what that version made of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Dict

import pytest


def unpack(checkpoint: Path, run: Path) -> Path:
    """The run of this checkpoint, which stopped at step 6, in a new folder."""
    step = run / "checkpoints" / "step-00000006"
    shutil.copytree(str(checkpoint), str(step), ignore=shutil.ignore_patterns("expected.json"))
    (step.parent / "last").symlink_to(step.name)
    return run


def compare(run: Path, checkpoint: Path, weights_sha256: str) -> None:
    """Hold a run that was continued to step 8 against what the earlier version gave.

    Bit for bit where floating-point arithmetic is that of the machine that wrote the checkpoint (device, threads,
    library), else to rounding.
    """
    expected: Dict[str, Any] = json.loads((checkpoint / "expected.json").read_text(encoding="utf-8"))
    record = json.loads((run / "result.json").read_text(encoding="utf-8"))
    assert (record["steps_completed"], record["images_trained"]) == (8, expected["images_trained"])
    assert record["best"] == expected["best"]
    assert record["dataset"]["classes"] == [str(digit) for digit in range(10)]
    before, now = (
        json.loads((folder / "state.json").read_text(encoding="utf-8"))["arithmetic"]
        for folder in (checkpoint, run / "checkpoints" / "last")
    )
    found = {part: {name: record[part][name] for name in expected[part]} for part in ("train", "evaluation")}
    if before == now:
        assert found == {part: expected[part] for part in found}
        assert weights_sha256 == expected["weights_sha256"]
    else:
        for part, values in found.items():
            assert values["loss"] == pytest.approx(expected[part]["loss"], rel=1e-4)
