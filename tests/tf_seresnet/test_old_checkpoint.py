"""A checkpoint of the version before `shared.run` (commit 1e314d7) is continued and evaluated as that version did."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

pytest.importorskip("tensorflow")

from tests.support.old_checkpoint import compare, unpack  # noqa: E402

pytestmark = pytest.mark.once
CHECKPOINT = Path(__file__).parent / "golden" / "checkpoint_of_1e314d7"


def test_it_is_resumed_in_the_middle_of_an_epoch(train, tmp_path):
    folder = unpack(CHECKPOINT, tmp_path / "run")
    run = train("--resume", str(folder), "--max-steps", "8", short=False)
    assert run.status == 0
    digest = hashlib.sha256()
    for name, value in sorted(run.weights().items()):
        digest.update(name.encode() + value.tobytes())
    compare(folder, CHECKPOINT, digest.hexdigest())


def test_it_is_evaluated(train, tmp_path, sample_folder):
    from tf_seresnet.main import main

    folder, output = unpack(CHECKPOINT, tmp_path / "run"), tmp_path / "evaluation"
    words = ["evaluate", "--checkpoint", str(folder), "--device", "cpu", "--data-path", str(sample_folder)]
    assert main([*words, "--output-dir", str(output)]) == 0
    found = json.loads((output / "result.json").read_text(encoding="utf-8"))["evaluation"]
    expected = json.loads((CHECKPOINT / "expected.json").read_text(encoding="utf-8"))["step_6"]
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    assert found["top1"] == expected["top1"]
