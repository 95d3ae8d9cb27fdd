"""Checks of the files in a run's folder, the same for both halves."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any, Dict, Tuple

import pytest

from tests.support.tensorboard_reader import hyper_parameters, read

SCALARS = set(
    (
        "train/loss train/top1 train/top5 train/learning_rate eval/loss eval/top1 eval/top5 "
        "throughput/images_per_second throughput/step_ms throughput/data_wait_share"
    ).split()
)
IMAGES = {"eval/confusion"}
# The hyper-parameters of every recipe, and those that both halves add.
HYPER_PARAMETERS = set(
    (
        "name network epochs batch_size schedule.kind schedule.base schedule.epochs momentum nesterov "
        "weight_decay precision seed dataset device global_batch_size"
    ).split()
)


def check_tensorboard(folder: Path, record: Dict[str, Any]) -> None:
    """TensorBoard's files have exactly these tags, with the numbers of the record."""
    found = read(folder / "tensorboard")
    assert set(found.scalars) == SCALARS
    assert set(found.images) == IMAGES
    for tag, value in (
        ("train/loss", record["train"]["loss"]),
        ("train/top1", record["train"]["top1"]),
        ("train/top5", record["train"]["top5"]),
        ("eval/loss", record["evaluation"]["loss"]),
        ("eval/top1", record["evaluation"]["top1"]),
        ("eval/top5", record["evaluation"]["top5"]),
    ):
        step, last = found.scalars[tag][-1]
        assert step == record["steps_completed"], tag
        assert last == pytest.approx(value, rel=1e-6), tag
    values, succeeded = hyper_parameters(folder / "tensorboard")
    assert set(values) >= HYPER_PARAMETERS
    assert (values["network"], values["name"]) == (record["network"], record["recipe"])
    assert (values["dataset"], values["seed"]) == (record["dataset"]["name"], record["seed"])
    assert succeeded


def check_examples(folder: Path, record: Dict[str, Any], size: Tuple[int, int]) -> None:
    """examples.json has at most one image per class and kind, in agreement with the confusion matrix, of this size."""
    image_module = pytest.importorskip("PIL.Image")
    content = json.loads((folder / "examples.json").read_text(encoding="utf-8"))
    confusion = record["evaluation"]["confusion"]
    assert content["images"] == record["evaluation"]["images"]
    assert content["right"] or content["wrong"]
    for kind, shown in (("right", content["right"]), ("wrong", content["wrong"])):
        labels = [example["label"] for example in shown]
        assert len(labels) == len(set(labels))
        for example in shown:
            assert (example["label"] == example["answer"]) == (kind == "right")
            assert confusion[example["label"]][example["answer"]] > 0
            file = io.BytesIO(base64.b64decode(example["picture"].partition(",")[2]))
            with image_module.open(file) as image:
                assert image.size == size
