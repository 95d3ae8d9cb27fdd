"""Titles of runs: short, without a file's name unless it is needed, and never two the same."""

from __future__ import annotations

import pytest

from shared.results.page.titles import titles

RECORD = {
    "mode": "train",
    "network": "se_resnet50",
    "dataset": {"name": "imagenette"},
    "started": "2026-11-25T17:09:18+00:00",
}


def named(*changes, names=None):
    return titles([dict(RECORD, **change) for change in changes], names or [f"r{n}" for n in range(len(changes))])


@pytest.mark.parametrize(
    ("change", "title"),
    [
        ({}, "SE-ResNet-50, imagenette, 25 Nov"),
        ({"mode": "finetune"}, "SE-ResNet-50, imagenette, finetune, 25 Nov"),
        ({"network": "se_resnet11", "dataset": {"name": "cifar-10"}}, "SE-ResNet-11, CIFAR-10, 25 Nov"),
        ({"network": "se_resnet50_caffe", "dataset": {"name": "imagenet"}}, "SE-ResNet-50 (Caffe), ImageNet, 25 Nov"),
        ({"network": "pnasnet5large", "dataset": {}}, "PNASNet-5-Large, 25 Nov"),
        ({"network": "mine"}, "mine, imagenette, 25 Nov"),
        ({"started": "2026-01-02T00:00:00"}, "SE-ResNet-50, imagenette, 2 Jan"),
        ({"started": "2026-99-02T00:00:00"}, "SE-ResNet-50, imagenette, 2026-99-02"),
        ({"started": "2026-00-02T00:00:00"}, "SE-ResNet-50, imagenette, 2026-00-02"),
    ],
)
def test_a_title(change, title):
    assert named(change) == [title]


def test_years_where_they_differ():
    assert named({}, {"started": "2025-11-25T00:00:00"}) == [
        "SE-ResNet-50, imagenette, 25 Nov 2026",
        "SE-ResNet-50, imagenette, 25 Nov 2025",
    ]


def test_no_two_are_the_same():
    same = "SE-ResNet-50, imagenette, 25 Nov"
    assert named({}, {"mode": "evaluate"}, {}, names=["a", "b", "c"]) == [
        f"{same}, a",
        "SE-ResNet-50, imagenette, evaluate, 25 Nov",
        f"{same}, c",
    ]
    assert named({}, {}, {}, names=["run", "run", "other"]) == [f"{same}, run, 1", f"{same}, run, 2", f"{same}, other"]
    assert named() == []
