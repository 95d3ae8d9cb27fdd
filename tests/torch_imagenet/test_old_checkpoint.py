"""A checkpoint of the version before `shared.run` (commit 1e314d7) is continued and evaluated as that version did."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch

from shared import sample
from tests.support.old_checkpoint import compare, unpack

CHECKPOINT = Path(__file__).parent / "golden" / "checkpoint_of_1e314d7"


def test_it_is_resumed_in_the_middle_of_an_epoch(run_in, tmp_path):
    folder = unpack(CHECKPOINT, tmp_path / "run")
    words = ["--resume", str(folder), "--max-steps", "8", "--device", "cpu", "--workers", "1"]
    run = run_in(folder, *words, "--data-path", str(sample.imagenet_folder(tmp_path)), plain=True)
    assert run.status == 0
    digest = hashlib.sha256()
    for name, tensor in sorted(torch.load(folder / "model.pth", weights_only=True).items()):
        digest.update(name.encode() + tensor.numpy().tobytes() if isinstance(tensor, torch.Tensor) else b"")
    compare(folder, CHECKPOINT, digest.hexdigest())


def test_it_is_evaluated(run_in, tmp_path):
    folder = unpack(CHECKPOINT, tmp_path / "run")
    words = ["--checkpoint", str(folder), "--device", "cpu", "--workers", "1"]
    words += ["--data-path", str(sample.imagenet_folder(tmp_path))]
    run = run_in(tmp_path / "evaluation", *words, plain=True, mode="evaluate")
    assert run.status == 0
    expected = json.loads((CHECKPOINT / "expected.json").read_text(encoding="utf-8"))["step_6"]
    assert run.record["evaluation"]["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    assert run.record["evaluation"]["top1"] == expected["top1"]
