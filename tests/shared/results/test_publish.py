"""Published records: fit to be committed, or refused."""

from __future__ import annotations

import copy
import json

import pytest

from shared.errors import UsageError
from shared.results.record import publish, read_record

RECORD = {
    "schema": 1,
    "half": "tf_seresnet",
    "mode": "evaluate",
    "network": "se_resnet11",
    "variant": "port",
    "dataset": {"name": "cifar-10", "path": "/home/someone/cifar-10-batches-py", "train_images": 50000},
    "device": {"kind": "cpu", "name": "a processor", "count": 1},
    "evaluation": {"images": 10000, "loss": 1.0, "top1": 50.0, "checkpoint": "/home/someone/run/checkpoints/last"},
    "versions": {"python": "3.11"},
    "commit": "0123456789abcdef",
    "started": "2026-01-02T03:04:05+00:00",
    "seconds": 1.0,
}


def test_the_machines_paths_are_left_out_and_the_numbers_kept(tmp_path):
    target = publish(RECORD, tmp_path)
    assert target == tmp_path / "tf_seresnet" / "se_resnet11-port-cifar-10-cpu-evaluate-2026-01-02T0304.json"
    assert "someone" not in target.read_text()
    published = read_record(target)
    assert published["dataset"].pop("path") == "cifar-10-batches-py"
    assert published["evaluation"].pop("checkpoint") == "checkpoints/last"
    expected = json.loads(json.dumps(RECORD))
    del expected["dataset"]["path"], expected["evaluation"]["checkpoint"]
    assert published == expected
    assert RECORD["dataset"]["path"].startswith("/home")


@pytest.mark.parametrize(
    "commits", [{"commit": ""}, {"commit": "0123-dirty"}, {"earlier_commits": ["0", "0123-dirty"]}]
)
def test_code_that_is_no_commit_is_refused(tmp_path, commits):
    record = dict(copy.deepcopy(RECORD), **commits)
    with pytest.raises(UsageError, match="is not a commit"):
        publish(record, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_twice_is_refused(tmp_path):
    publish(RECORD, tmp_path)
    with pytest.raises(UsageError, match="there already"):
        publish(RECORD, tmp_path)


def test_a_run_that_has_gone_on_since_is_told_what_to_remove(tmp_path):
    publish(RECORD, tmp_path)
    with pytest.raises(UsageError, match="holds another record; remove it to put this one in its place"):
        publish(dict(RECORD, seconds=2.0), tmp_path)
