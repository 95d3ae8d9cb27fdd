"""The folder of a run: made, shared with nobody's files, found again."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from shared.errors import UsageError
from shared.run import folder as run_folder


def test_the_folder_that_was_asked_for(tmp_path):
    assert run_folder.run_folder(str(tmp_path / "a" / "b"), "network") == tmp_path / "a" / "b"
    assert (tmp_path / "a" / "b").is_dir()


def test_else_a_new_one_under_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = run_folder.run_folder(None, "se_resnet50-train")
    assert folder.is_dir()
    assert re.match(rf"runs/\d{{8}}-\d{{6}}-se_resnet50-train-{os.getpid()}$", str(folder))


def test_a_folder_that_cannot_be_made_is_the_users_to_mend(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="; choose another folder with --output-dir"):
        run_folder.run_folder(str(tmp_path / "file"), "network")


@pytest.mark.parametrize("name", ["train.log", "checkpoints", "model.ckpt.index"])
@pytest.mark.parametrize(
    "make",
    [
        lambda path, other: path.symlink_to(other),
        lambda path, other: path.symlink_to(other / "nothing"),
        lambda path, other: os.mkfifo(str(path)),
    ],
    ids=["link", "dangling link", "pipe"],
)
def test_what_a_run_writes_stays_in_its_folder(tmp_path, name, make):
    (tmp_path / "run").mkdir()
    make(tmp_path / "run" / name, tmp_path)
    with pytest.raises(UsageError, match=f"{name} is a link or a device.*; remove it, or choose another --output-dir"):
        run_folder.run_folder(str(tmp_path / "run"), "network")


def test_what_is_no_runs_may_be_a_link(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").symlink_to(tmp_path)
    assert run_folder.run_folder(str(tmp_path / "run"), "network") == tmp_path / "run"


# -- an earlier run in it --------------------------------------------------------------------------------------


def config(half="torch_imagenet", mode="train"):
    network = {"depth": 11} if half == "tf_seresnet" else {"name": "senet154"}
    return {"command": "", "recipe": {}, "network": network, "options": {"mode": mode}, "versions": {}}


def vouched(folder, half="torch_imagenet", mode="train", **others):
    """A run's folder: its config.json and files with these names and contents."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config(half, mode)))
    for name, content in others.items():
        (folder / name.replace("__", ".")).write_text(content)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


EITHER = ["train.log", "events.jsonl", "result.json", "examples.json"]
OWN = {
    "tf_seresnet": ["model.ckpt.index", "model.ckpt.data-00000-of-00001"],
    "torch_imagenet": ["model.pth", "model_best.pth.tar", "checkpoint.pth.tar"],
}


@pytest.mark.parametrize("half", OWN)
def test_a_used_folder_gives_up_what_its_run_wrote_and_nothing_else(tmp_path, half):
    written = EITHER + OWN[half]
    others = [name for own in OWN.values() for name in own if name not in written]
    others += ["notes.txt", "model.ckpt", "config.yaml", "output.prof"]
    vouched(tmp_path, half)
    for name in written + others:
        (tmp_path / name).write_text(name)
    for name in ("tensorboard", "checkpoints", "models", "data"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "inner").write_text(name)
    aside = run_folder.set_aside(tmp_path, half, "train")
    assert aside == tmp_path / "previous-1"
    folders = ["tensorboard", "checkpoints"]
    assert names(aside) == sorted(["config.json", *written, *folders])
    assert names(tmp_path) == sorted([*others, "data", "models", "previous-1"])
    assert all((aside / name).read_text() == name for name in written)
    assert all((aside / name / "inner").read_text() == name for name in folders)


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("checkpoints/team.pth", "train"),
        ("checkpoints/team.pth", "finetune"),
        ("model.pth", "train"),
        ("train.log", "train"),
        ("tensorboard/events", "evaluate"),
        ("result.json", "evaluate"),
        ("events.jsonl", "benchmark"),
        ("config.json", "train"),
        ("output.prof", "profile"),
    ],
)
@pytest.mark.parametrize("content", ["mine", "{}", "[1]", '{"model_type": "bert", "options": {}, "command": ""}'])
def test_what_no_run_vouches_for_stays_where_it_is(tmp_path, name, mode, content):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    (tmp_path / "notes.txt").write_text("")
    before = names(tmp_path)
    with pytest.raises(UsageError, match=f"holds {name.split('/')[0]}, and no config.json of a run .*; choose another"):
        run_folder.set_aside(tmp_path, "torch_imagenet", mode)
    assert names(tmp_path) == before
    assert path.read_text() == content


def test_what_lies_beside_a_run_that_has_not_written_it_stays(tmp_path):
    """A folder of weights in which they were evaluated, and a training that is to write its own there."""
    vouched(tmp_path, mode="evaluate", model__pth="somebody's", result__json="{}")
    assert run_folder.set_aside(tmp_path, "torch_imagenet", "evaluate") == tmp_path / "previous-1"
    assert names(tmp_path) == ["model.pth", "previous-1"]
    with pytest.raises(UsageError, match="holds model.pth"):
        run_folder.set_aside(tmp_path, "torch_imagenet", "train")


def test_a_benchmark_of_before_had_a_record_alone(tmp_path):
    record = {"schema": 1, "half": "torch_imagenet", "mode": "benchmark", "versions": {}, "started": ""}
    (tmp_path / "result.json").write_text(json.dumps(record))
    (tmp_path / "train.log").write_text("of it")
    assert run_folder.set_aside(tmp_path, "torch_imagenet", "benchmark") == tmp_path / "previous-1"
    assert names(tmp_path / "previous-1") == ["result.json", "train.log"]


def test_what_is_empty_is_nobodys_work(tmp_path):
    (tmp_path / "train.log").write_text("")
    (tmp_path / "checkpoints").mkdir()
    assert run_folder.set_aside(tmp_path, "torch_imagenet", "train") is None


def test_nothing_to_set_aside(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    assert run_folder.set_aside(tmp_path, "tf_seresnet", "train") is None
    assert os.listdir(str(tmp_path)) == ["notes.txt"]


def test_no_earlier_run_is_overwritten(tmp_path):
    for number in range(1, 4):
        vouched(tmp_path, result__json=str(number))
        assert run_folder.set_aside(tmp_path, "torch_imagenet", "train") == tmp_path / f"previous-{number}"
    assert [(tmp_path / f"previous-{n}" / "result.json").read_text() for n in (1, 2, 3)] == ["1", "2", "3"]


def test_a_file_is_found_where_its_run_was_moved(tmp_path, monkeypatch):
    run, other = tmp_path / "run", tmp_path / "other"
    other.mkdir()
    (other / "model.ckpt.index").write_text("")
    vouched(run, "tf_seresnet", **{"model__ckpt__index": ""})
    monkeypatch.chdir(tmp_path)
    here = Path("run")
    assert run_folder.moved_with(here / "model.ckpt", run) == here / "model.ckpt"
    run_folder.set_aside(run, "tf_seresnet", "train")
    assert run_folder.moved_with(here / "model.ckpt", run) == run / "previous-1" / "model.ckpt"
    assert run_folder.moved_with(other / "model.ckpt", run) == other / "model.ckpt"


# -- the newest ------------------------------------------------------------------------------------------------


def checkpoint(run, file, age):
    step = run / "checkpoints" / "step-00000001"
    step.mkdir(parents=True)
    (step / file).write_text("")
    os.symlink(step.name, str(step.parent / "last"))
    os.utime(str(step), (10**9 - age, 10**9 - age))


def test_the_newest_run_is_the_own_halfs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, file, age in (
        ("a", "model.ckpt.index", 30),
        ("b", "model.ckpt.index", 10),
        ("c", "training.pth", 0),
        ("d", "training.pth", 20),
        ("e", "model.ckpt.index", 40),
    ):
        checkpoint(tmp_path / "runs" / name, file, age)
    (tmp_path / "runs" / "f").mkdir()  # a run that has saved nothing
    assert str(run_folder.named_weights(None, None, "model.ckpt.index")) == os.path.join("runs", "b")
    assert str(run_folder.named_weights(None, None, "model.ckpt.*")) == os.path.join("runs", "b")
    assert str(run_folder.named_weights(None, None, "training.pth")) == os.path.join("runs", "c")
    with pytest.raises(UsageError, match=r"no checkpoint under \./runs; train first"):
        run_folder.named_weights(None, None, "weights.bin")


def test_no_run_at_all(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"no checkpoint under \./runs; train first"):
        run_folder.named_weights(None, None, "*")


def test_weights_are_named_once():
    def named(checkpoint, resume):
        return run_folder.named_weights(checkpoint, resume, "no such file")

    assert (named("a", None), named(None, "b")) == ("a", "b")
    with pytest.raises(UsageError, match="--checkpoint and --resume both name the weights; give one"):
        named("a", "b")


def test_a_checkpoint_belongs_to_the_run_that_it_stands_in(tmp_path, monkeypatch):
    step = tmp_path / "run" / "checkpoints" / "step-00000005"
    step.mkdir(parents=True)
    (step.parent / "last").symlink_to(step.name)
    assert run_folder.run_of(step) == run_folder.run_of(step.parent / "last") == tmp_path / "run"
    monkeypatch.chdir(step.parent)  # where its name says nothing of its folders
    assert run_folder.run_of(step.name) == tmp_path / "run"


def test_a_checkpoint_that_stands_alone_does_not_say_where_to_write(tmp_path):
    with pytest.raises(UsageError, match="say with --output-dir"):
        run_folder.run_of(tmp_path / "step-00000005")
    with pytest.raises(UsageError, match="say with --output-dir"):
        run_folder.run_of("/step-00000005")


def test_a_link_to_a_checkpoint_means_the_run_of_the_checkpoint(tmp_path):
    step = tmp_path / "run" / "checkpoints" / "step-00000005"
    step.mkdir(parents=True)
    (tmp_path / "mine").symlink_to(step)
    assert run_folder.run_of(tmp_path / "mine") == tmp_path / "run"


def test_a_linked_folder_of_checkpoints_stays_where_it_was_named(tmp_path):
    (tmp_path / "other" / "checkpoints" / "step-00000005").mkdir(parents=True)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoints").symlink_to(tmp_path / "other" / "checkpoints")
    assert run_folder.run_of(tmp_path / "run" / "checkpoints" / "step-00000005") == tmp_path / "run"


def test_the_folder_of_a_run(tmp_path):
    folder, moved = run_folder.open_folder("torch_imagenet", "train", "network", str(tmp_path / "run"), None)
    assert (folder, moved) == (tmp_path / "run", [])
    (folder / "config.json").write_text(
        json.dumps(dict.fromkeys(("command", "recipe", "network", "options", "versions"), {}))
    )
    checkpoint = folder / "checkpoints" / "step-00000001"
    checkpoint.mkdir(parents=True)
    assert run_folder.open_folder("torch_imagenet", "train", "network", str(folder), checkpoint) == (folder, [])
    assert run_folder.open_folder("torch_imagenet", "train", "network", str(folder), None)[1] == [
        "note: the run that was in {0} is now in {0}/previous-1".format(folder)
    ]
