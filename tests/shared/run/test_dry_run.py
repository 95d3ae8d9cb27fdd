"""The counts and the bounds that --dry-run prints, worked out by hand, and the folder that it looks at."""

from __future__ import annotations

import json
import os

import pytest

from shared.errors import UsageError
from shared.roofline import NetworkCost
from shared.run import dry_run
from shared.run.folder import would_be_written
from shared.run.plan import Plan

COST = NetworkCost(parameters=2**28, multiply_adds=10**9, activations=2**24)
RECIPE = {"name": "x", "network": "y", "epochs": 2, "batch_size": 64, "momentum": 0, "milestones": (), "dropout": None}


def lines(precision="O0", done=0, seconds=None, **recipe):
    plan = Plan(2, 500, 1000, 10, None, 5, roofline_seconds=seconds)
    return dry_run.training({**RECIPE, **recipe}, plan, done, COST, precision)


@pytest.mark.parametrize(
    ("options", "whole", "kept"),
    [
        ({}, 5, 1),  # 4 bytes x 2**28 weights; 64 images x 2**24 outputs x 4 bytes
        ({"momentum": 0.9}, 6, 2),
        ({"momentum": 0.9, "ema_decay": 0.9}, 7, 3),
        ({"precision": "O1"}, 3, 1),
        ({"batch_size": 1, "momentum": 0.9}, 3, 2),  # the gradients are more than the outputs
        ({"momentum": 0.9, "freeze_body": True}, 1, 1),
    ],
)
def test_the_memory_is_that_of_the_docstring(options, whole, kept):
    text = f"estimate: at least {whole}.00 GiB of memory a device, {kept}.00 GiB of it kept from step to step"
    assert lines(**options)[2] == text


def test_settings_steps_and_time():
    settings, steps, _, time = lines()
    assert settings == "settings: batch_size 64, momentum 0"
    assert steps == "steps: 1,000"
    assert "no time without --peak-flops and --memory-bandwidth" in time


def test_the_steps_that_are_done_are_left_out():
    assert lines(done=400, seconds=0.5)[1:2] == ["steps: 600 of 1,000, 400 are done"]
    assert (
        lines(done=400, seconds=0.5)[3]
        == "estimate: at least 500.000 ms a step and 300.0 s of training, by the roofline"
    )
    assert "0.14 hours of training" in lines(seconds=0.5)[3]


def test_counts():
    assert dry_run.images(1495, 299, 10) == "images: 1,495 to train on, 299 to evaluate on, 10 classes"
    assert dry_run.images(None, 299, 1000) == "images: 299 to evaluate on, 1,000 classes"
    assert dry_run.evaluation(75, 4, 2**18) == [
        "steps: 75 of 4 images a device",
        "estimate: at least 1.0 MiB of memory, weights",
    ]


# -- the folder ------------------------------------------------------------------------------------------------


def would(output_dir, mode="train", resumed=None):
    return would_be_written("torch_imagenet", mode, None if output_dir is None else str(output_dir), resumed)


def test_the_folder_is_looked_at_and_not_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert would(None) == "output: a new folder under runs/"
    assert would(tmp_path / "a" / "b") == f"output: {tmp_path / 'a' / 'b'}"
    assert os.listdir(str(tmp_path)) == []


def test_a_folder_that_a_run_would_refuse_is_refused(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(UsageError, match="file is no folder; choose another --output-dir"):
        would(tmp_path / "file" / "run")
    (tmp_path / "train.log").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match="holds train.log, and no config.json of a run that has written it"):
        would(tmp_path)


def test_an_earlier_run_would_be_moved_and_a_resumed_one_not(tmp_path):
    config = {"command": "", "recipe": {}, "options": {"mode": "train"}, "network": {}, "versions": {}}
    config.update(commit=None, device={}, data={}, machine="", learning_rate="", global_batch_size=1)
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    step = tmp_path / "checkpoints" / "step-00000003"
    step.mkdir(parents=True)
    assert would(tmp_path) == f"output: {tmp_path}, whose earlier run would be moved to previous-N in it"
    assert would(tmp_path, resumed=step) == f"output: {tmp_path}"
    with pytest.raises(UsageError, match="holds a training run; choose another folder for the evaluation"):
        would(tmp_path, "evaluate")
