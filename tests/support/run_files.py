"""What a training's folder must hold beside its record, whichever half has trained: one list for both."""

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
# Those that every recipe has, and what both halves say beside them.
HYPER_PARAMETERS = set(
    (
        "name network epochs batch_size schedule.kind schedule.base schedule.epochs momentum nesterov "
        "weight_decay precision seed dataset device global_batch_size"
    ).split()
)


def check_tensorboard(folder: Path, record: Dict[str, Any]) -> None:
    """Exactly these tags, with the record's numbers."""
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
    given, succeeded = hyper_parameters(folder / "tensorboard")
    assert set(given) >= HYPER_PARAMETERS
    assert (given["network"], given["name"]) == (record["network"], record["recipe"])
    assert (given["dataset"], given["seed"]) == (record["dataset"]["name"], record["seed"])
    assert succeeded


def check_examples(folder: Path, record: Dict[str, Any], size: Tuple[int, int]) -> None:
    """Of each class one image at most, right and wrong as the confusion matrix says, with pictures of this size."""
    image_module = pytest.importorskip("PIL.Image")
    content = json.loads((folder / "examples.json").read_text(encoding="utf-8"))
    confusion = record["evaluation"]["confusion"]
    assert content["images"] == record["evaluation"]["images"]
    assert content["right"] or content["wrong"]
    for kind, shown in (("right", content["right"]), ("wrong", content["wrong"])):
        labels = [one["label"] for one in shown]
        assert len(labels) == len(set(labels))
        for one in shown:
            assert (one["label"] == one["answer"]) == (kind == "right")
            assert confusion[one["label"]][one["answer"]] > 0
            file = io.BytesIO(base64.b64decode(one["picture"].partition(",")[2]))
            with image_module.open(file) as image:
                assert image.size == size
