"""A run's folder: others' files in it, a disk without links, a copy, and classes whose names are not UTF-8."""

from __future__ import annotations

import errno
import json
import os
import shutil

import pytest

BAD = "caf\udce9"  # a name in Latin-1, as Python keeps it


def contents(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_classes_that_are_not_utf8_are_trained_on_and_named(run_in, tiny, tmp_path):
    shutil.copytree(str(tiny.folder), str(tmp_path / "data"))
    for split in ("train", "val"):
        os.rename(str(tmp_path / "data" / split / "class2"), str(tmp_path / "data" / split / BAD))
    os.rename(str(tmp_path / "data"), str(tmp_path / "d\udce9"))
    data = ["--data-path", str(tmp_path / "d\udce9")]
    run = run_in(tmp_path / "run\udce9", "--epochs", "1", *data)
    assert run.status == 0
    assert (run.folder / "model.pth").is_file()
    examples = json.loads((run.folder / "examples.json").read_text(encoding="utf-8"))
    assert BAD in {
        shown[key] for kind in ("right", "wrong") for shown in examples[kind] for key in ("label_name", "answer_name")
    }
    assert r"d\udce9" in (run.folder / "train.log").read_text(encoding="utf-8")
    assert run.record["dataset"]["path"] == str(tmp_path / "d\udce9")
    more = ["--resume", str(run.folder), "--epochs", "2", "--device", "cpu", "--workers", "1"]
    assert run_in(run.folder, *more, plain=True).status == 0


def test_a_project_of_somebody_else_stays_as_it_is(run_in, tmp_path, capsys):
    for name in ("models/net.py", "checkpoints/team.pth", "config.json"):
        (tmp_path / "run" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "run" / name).write_text('{"model_type": "bert"}')
    before = contents(tmp_path)
    assert run_in(tmp_path / "run").status == 2
    assert "holds checkpoints, and no config.json of a run that has written it" in capsys.readouterr().err
    assert contents(tmp_path) == before


def test_a_disk_without_links_and_permissions(run_in, tmp_path, monkeypatch):
    def refuse(*arguments, **named):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    with monkeypatch.context() as patch:
        patch.setattr(os, "symlink", refuse)
        patch.setattr(os, "chmod", refuse)
        run = run_in(tmp_path / "run", "--original-names")
    assert run.status == 0
    last = run.folder / "checkpoints" / "last"
    assert last.read_text() == "step-00000010\n"
    evaluated = run_in(tmp_path / "evaluated", "--checkpoint", str(last), mode="evaluate")
    assert evaluated.status == 0
    assert evaluated.record["evaluation"]["top1"] == run.record["evaluation"]["top1"]


@pytest.mark.parametrize("mode", ["train", "benchmark", "profile"])
def test_the_same_command_twice_in_one_folder(run_in, tmp_path, mode):
    words = ["--epochs", "1", "--max-steps", "1", "--num-classes", "3"]
    for _ in range(2):
        assert run_in(tmp_path / "run", *words, mode=mode).status == 0
    assert (tmp_path / "run" / "previous-1" / "config.json").is_file()
    assert (tmp_path / "run" / "previous-1" / "result.json").is_file()
