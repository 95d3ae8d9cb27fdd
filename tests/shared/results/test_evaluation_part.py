"""An evaluation in the record and in the log, of four images whose numbers can be worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from shared.metrics import Metrics
from shared.results.record import build_record, evaluation_line, evaluation_part


@pytest.fixture
def metrics():
    """Six classes; the right class has the first, second, fifth and sixth largest logit."""
    counted = Metrics(6)
    logits = np.array([[5.0, 4.0, 3.0, 2.0, 1.0, 0.0]] * 4)
    counted.update(logits, np.array([0, 1, 4, 5]))
    return counted


LOSS = math.log(sum(math.exp(-k) for k in range(6))) + (0 + 1 + 4 + 5) / 4


def test_the_line(metrics):
    text = evaluation_line(metrics)
    assert text == f"test: top-1 25.000 % (error 75.000 %), top-5 75.000 %, loss {LOSS:.4f} on 4 images"


def test_the_part_of_a_record(metrics):
    part = evaluation_part(metrics, "runs/a/checkpoints/last")
    record = build_record(
        half="torch_imagenet",
        mode="evaluate",
        network="senet154",
        device={"kind": "cpu", "name": "x", "count": 1},
        dataset={"name": "imagenet"},
        evaluation=part,
        versions={"python": "3"},
        started="2020-01-01T00:00:00+00:00",
        seconds=1.0,
    )
    written = record["evaluation"]
    assert written["checkpoint"] == "runs/a/checkpoints/last"
    assert (written["images"], written["top1"], written["top5"]) == (4, 25.0, 75.0)
    assert written["per_class_accuracy"] == [100.0, 0.0, None, None, 0.0, 0.0]
    assert [row[0] for row in written["confusion"]] == [1, 1, 0, 0, 1, 1]  # all were taken for class 0
    confidence = 1 / sum(math.exp(-k) for k in range(6))
    only = int(15 * confidence)  # the bin that all four images fall into
    assert written["reliability"]["images"] == [4 * (number == only) for number in range(15)]
    assert written["reliability"]["accuracy"] == [25.0 if number == only else None for number in range(15)]
    assert written["reliability"]["confidence"][only] == pytest.approx(100 * confidence, rel=1e-9)
    assert written["expected_calibration_error"] == pytest.approx(100 * abs(0.25 - confidence), rel=1e-6)


def test_without_a_checkpoint_the_record_has_none(metrics):
    assert evaluation_part(metrics)["checkpoint"] is None
