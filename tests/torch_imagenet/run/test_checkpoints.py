"""Torch's files of a checkpoint: whole, plain tensors, nothing that runs, no wider than what they hold."""

from __future__ import annotations

import os
from pathlib import Path
from unittest import mock

import pytest

torch = pytest.importorskip("torch")

from shared.checkpoint.folder import CheckpointFolder  # noqa: E402
from shared.errors import UsageError  # noqa: E402
from shared.run.progress import Progress  # noqa: E402
from torch_imagenet.run import checkpoints  # noqa: E402


def test_tensors_and_plain_values_come_back(tmp_path):
    state = {
        "network": {"w": torch.randn(3, 4)},
        "optimizer": {
            "state": {0: {"momentum_buffer": torch.ones(2)}},
            "param_groups": [{"lr": 0.1, "params": [0], "fused": True, "maximize": False}],
        },
    }
    checkpoints.write_training(tmp_path, state)
    back = checkpoints.read_training(tmp_path)
    assert torch.equal(back["network"]["w"], state["network"]["w"])
    assert back["optimizer"]["param_groups"] == state["optimizer"]["param_groups"]


def test_a_view_is_stored_without_what_it_is_a_view_of(tmp_path):
    checkpoints.write_training(tmp_path, {"w": torch.zeros(1_000_000)[:3]})
    assert (tmp_path / checkpoints.TRAINING).stat().st_size < 10_000


class Hostile:
    """Unpickling it would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path):
    torch.save({"network": Hostile(tmp_path / "executed")}, tmp_path / checkpoints.TRAINING)
    with pytest.raises(UsageError, match="cannot be read .*; use another checkpoint"):
        checkpoints.read_training(tmp_path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 cut off"])
def test_a_damaged_file_is_one_line(content, tmp_path):
    (tmp_path / checkpoints.TRAINING).write_bytes(content)
    with pytest.raises(UsageError) as caught:
        checkpoints.read_training(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_model_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    checkpoints.save_model(tmp_path / "model.pth", {"w": torch.ones(2)})
    monkeypatch.setattr(torch, "save", _fails)
    with pytest.raises(OSError, match="no space"):
        checkpoints.save_model(tmp_path / "model.pth", {"w": torch.zeros(2)})
    assert torch.load(tmp_path / "model.pth", weights_only=True)["w"].tolist() == [1, 1]
    assert [path.name for path in tmp_path.iterdir()] == ["model.pth"]


def _fails(content, file):
    file.write(b"half of it")
    raise OSError("no space left on device")


def test_the_originals_files(tmp_path):
    training = {
        "network": {"fc.weight": torch.ones(2)},
        "optimizer": {"state": {}, "param_groups": []},
        "loss_scale": {},
    }
    step = mock.Mock(**{"state_dict.return_value": training})
    for epoch, top1, best in ((4, 77.5, False), (5, 78.5, True)):
        assert not (tmp_path / "model_best.pth.tar").exists()
        progress = vars(Progress(epoch=epoch, best_top1=top1))
        state = {"progress": progress, "network": {"name": "se_resnet50"}, "data": {"classes": None}, "recipe": {}}
        checkpoints.save_with_original_names(tmp_path, state, step, best)
    best = torch.load(tmp_path / "model_best.pth.tar", weights_only=True)
    assert (best["epoch"], best["arch"], best["best_acc1"]) == (5, "se_resnet50", 78.5)


@pytest.mark.parametrize("run", [{"state": "{}"}, {"state": "["}, {"state": 3}, {"state": "[" * 10**5}])
def test_a_run_in_an_originals_file_is_checked(run, tmp_path):
    assert checkpoints.of_file(tmp_path / "x.pth.tar", {"epoch": 1, "state_dict": {}}) is None
    with pytest.raises(UsageError, match="x.pth.tar is no checkpoint of this version"):
        checkpoints.of_file(tmp_path / "x.pth.tar", {"epoch": 1, "run": run})


def test_a_run_of_the_other_half_is_not_taken_for_one_of_this(tmp_path):
    folder = CheckpointFolder(tmp_path, keep=1)
    folder.save(1, lambda path: (path / "model.ckpt.index").write_bytes(b"x"), {"progress": {"step": 1}})
    with pytest.raises(UsageError, match="is no checkpoint of an ImageNet network; name a run of this program"):
        checkpoints.find(tmp_path)
