"""--dry-run says what the run says of itself before it writes, writes nothing, and finds what is wrong."""

from __future__ import annotations

import os

import pytest


def said(capsys):
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("mode", ["train", "finetune", "evaluate"])
def test_it_says_what_the_run_says_and_writes_nothing(mode, run_in, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trained = run_in(tmp_path / "trained", "--max-steps", "1")
    given = [] if mode == "train" else ["--checkpoint", str(trained.folder)]
    capsys.readouterr()
    dry = run_in(tmp_path / "run", *given, "--max-steps", "3", "--dry-run", mode=mode)
    lines = said(capsys)
    assert dry.status == 0
    assert sorted(os.listdir(tmp_path)) == ["trained"]
    assert lines[-1] == "dry run: nothing was run or written; without --dry-run this begins"
    assert lines[-2] == f"output: {dry.folder}"
    run = run_in(tmp_path / "run", *given, "--max-steps", "3", mode=mode)
    record, log = run.record, (run.folder / "train.log").read_text().splitlines()
    assert [line for line in lines if line in log][:2] == log[:2]
    assert f"{record['parameters']:,} parameters" in next(line for line in lines if line.startswith("network:"))
    counts = next(line for line in lines if line.startswith("images:"))
    assert f"{record['dataset']['eval_images']:,} to evaluate on" in counts
    if mode != "evaluate":
        assert f"{record['dataset']['train_images']:,} to train on" in counts
        assert f"steps: {record['steps_completed']}" in lines
        assert any(line.startswith("estimate: at least ") for line in lines)


def test_of_a_resumed_run_the_steps_that_are_left(run_in, tmp_path, capsys):
    trained = run_in(tmp_path / "run", "--max-steps", "2", "--save-steps", "1")
    before = sorted(path for path in trained.folder.rglob("*"))
    capsys.readouterr()
    words = ["--resume", str(trained.folder), "--max-steps", "5", "--dry-run", "--device", "cpu"]
    assert run_in(trained.folder, *words, plain=True).status == 0
    lines = said(capsys)
    assert "steps: 3 of 5, 2 are done" in lines
    assert f"output: {trained.folder}" in lines
    assert sorted(path for path in trained.folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--data-path nowhere", "nowhere does not exist"),
        ("--resume nothing", "nothing"),
        ("--device warp", "unknown device 'warp'"),
        ("--batch-size 100000", "larger than the training set"),
        ("--sync-bn", "--sync-bn is for several devices"),
        ("--batch-size 4 --output-dir FILE/x", "is no folder; choose another --output-dir"),
        ("--checkpoint FILE", "FILE"),
        ("benchmark --dry-run", "--dry-run has no effect in the mode benchmark; leave it out, it is for train"),
        ("--port se_resnet50 --profile", "--dry-run has no effect in the mode profile"),
    ],
)
def test_what_is_wrong_is_found_as_in_the_run(words, message, tiny, tmp_path, monkeypatch, capsys):
    from torch_imagenet.main import main

    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE").write_text("no weights")
    common = ["--image-size", "32", "--device", "cpu", "--data-path", str(tiny.folder), "--workers", "1"]
    assert main([*common, *words.split(), "--dry-run"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert os.listdir(tmp_path) == ["FILE"]


@pytest.mark.parametrize(
    ("options", "note"),
    [
        (
            ["--recipe", "se_resnet50_8p", "--batch-size", "4"],
            "the recipe's learning rate is for 8 devices, 1024 images a step; here it is 4: --accumulate 256 makes them"
            " the same, --scale-learning-rate adapts the rate",
        ),
        (
            ["--recipe", "se_resnet50_8p", "--batch-size", "3"],
            "the recipe's learning rate is for 8 devices, 1024 images a step; here it is 3: --scale-learning-rate"
            " adapts the rate",
        ),
        (  # whose rate on a CPU is not that of the document's NPU
            ["--recipe", "pnasnet5large_8p", "--batch-size", "4"],
            "the recipe's learning rate is for 8 devices, 256 images a step; here it is 4: --accumulate 64 makes them",
        ),
        (["--recipe", "se_resnet50_8p", "--batch-size", "4", "--scale-learning-rate"], None),
        (["--freeze-body", "--drop-path", "0.1"], "the body is frozen, so that its drop-path 0.1 has no effect"),
        (["--scheduler", "cosine", "--period", "3"], "--period has no effect on a schedule of the kind cosine"),
    ],
)
def test_what_an_option_does_to_the_recipe_is_said(options, note, run_in, tmp_path, capsys):
    plain = ["--image-size", "32", "--max-steps", "1", "--device", "cpu"]
    assert run_in(tmp_path / "run", *options, *plain, "--dry-run", plain=True).status == 0
    lines = [line for line in said(capsys) if "learning rate is for" in line or "no effect" in line]
    assert [line[: len(f"note: {note}")] for line in lines] == ([f"note: {note}"] if note else [])
