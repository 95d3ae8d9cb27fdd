"""`shared.results.record`: what a record may hold, and what is said about one that holds something else."""

from __future__ import annotations

import json
from typing import Any, Dict

import numpy as np
import pytest

from shared.errors import UsageError
from shared.results.record import build_record, read_record, write_record

INTERFACE = """{"schema": 1, "half": "tf_seresnet", "mode": "train", "network": "se_resnet110", "recipe": "...",
     "dataset": {"name": "cifar-10", "path": "...", "train_images": 50000, "eval_images": 10000, "fingerprint": "...", "classes": ["..."]},
     "device": {"kind": "cpu", "name": "...", "count": 1}, "precision": "O0", "batch_size": 128, "global_batch_size": 128,
     "epochs_completed": 1, "steps_completed": 391, "images_trained": 50000,
     "throughput": {"images_per_second": 0.0, "step_ms_p50": 0.0, "step_ms_p95": 0.0, "data_wait_share": 0.0, "steps_timed": 0},
     "train": {"loss": 0.0, "top1": 0.0}, "evaluation": {"images": 10000, "loss": 0.0, "top1": 0.0, "top5": 0.0},
     "parameters": 3504422, "versions": {"python": "...", "tensorflow": "..."}, "commit": "...",
     "started": "2024-01-02T03:04:05", "seconds": 0.0}"""  # noqa: E501


def _record() -> Dict[str, Any]:
    return dict(json.loads(INTERFACE))


def _set(record: Dict[str, Any], key: str, value: Any) -> None:
    part, _, inner = key.partition(".")
    if inner:
        record[part][inner] = value
    else:
        record[part] = value


def test_the_documented_record_is_written_and_read_back_unchanged(tmp_path):
    path = tmp_path / "result.json"
    write_record(path, _record())
    assert read_record(path) == _record()
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_text().count("\n") == len(_record()) + 2


def test_build_leaves_out_what_a_mode_does_not_have():
    parts = _record()
    del parts["schema"]
    record = build_record(**dict(parts, train=None, throughput={}, recipe=None, evaluation={"images": 7, "top1": None}))
    assert not {"train", "throughput", "recipe"} & set(record)
    assert record["evaluation"] == {"images": 7}
    assert record["schema"] == 1
    assert list(record)[:4] == ["schema", "half", "mode", "network"]


def test_build_takes_numpy_and_turns_nan_of_empty_classes_into_null(tmp_path):
    evaluation = {
        "images": np.int64(3),
        "loss": np.float64(0.5),
        "top1": np.float32(50),
        "per_class_accuracy": np.array([50.0, np.nan]),
        "confusion": np.array([[1, 1], [0, 1]]),
        "expected_calibration_error": 1.5,
        "checkpoint": "runs/x/checkpoints/best",
    }
    parts = _record()
    del parts["schema"]
    more = {
        "best": {"epoch": 3, "top1": 50.0},
        "machine": "Kunpeng-920, 48 cores",
        "depth": 20,
        "variant": "paper",
        "seed": 0,
    }
    record = build_record(**dict(parts, evaluation=evaluation, layers="slim", **more))
    write_record(tmp_path / "result.json", record)
    back = read_record(tmp_path / "result.json")
    assert back == record
    assert back["evaluation"]["per_class_accuracy"] == [50.0, None]
    assert back["evaluation"]["confusion"] == [[1, 1], [0, 1]]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("evaluation.top1", 100.5),
        ("evaluation.top1", -1),
        ("evaluation.top1", "94.5"),
        ("evaluation.top1", True),
        ("evaluation.loss", float("nan")),
        ("evaluation.loss", float("inf")),
        ("evaluation.images", 10000.0),
        ("evaluation.images", -1),
        ("evaluation.per_class_accuracy", [50, 101]),
        ("evaluation.per_class_accuracy", [float("nan")]),
        ("evaluation.confusion", [[1, 2]]),
        ("evaluation.top3", 1.0),
        ("best.top1", 101),
        ("throughput.data_wait_share", 1.5),
        ("train", 5),
        ("train", None),
        ("mode", "training"),
        ("schema", 2),
        ("started", "yesterday"),
        ("versions", {"python": 3}),
        ("seconds", None),
        ("epoch_completed", 3),
        ("network", ""),
    ],
)
def test_a_wrong_value_is_one_line_that_names_file_and_key(tmp_path, key, value):
    record = dict(_record(), best={"epoch": 1})
    _set(record, key, value)
    path = tmp_path / "result.json"
    path.write_text(json.dumps(record))
    for act in (lambda: read_record(path), lambda: write_record(path, record)):
        with pytest.raises(UsageError) as error:
            act()
        message = str(error.value)
        assert str(path) in message
        assert key in message
        assert "; " in message
        assert "\n" not in message


@pytest.mark.parametrize("key", ["half", "mode", "network", "device", "started", "versions", "steps_completed"])
def test_a_missing_key_is_named(tmp_path, key):
    record = _record()
    del record[key]
    with pytest.raises(UsageError, match=rf"result\.json: {key}(\.kind)? is missing; "):
        write_record(tmp_path / "result.json", record)
    assert not list(tmp_path.iterdir())


def test_an_evaluation_needs_its_accuracy_but_no_training(tmp_path):
    record = _record()
    for key in ("train", "throughput", "epochs_completed", "steps_completed", "images_trained"):
        del record[key]
    record["mode"] = "evaluate"
    write_record(tmp_path / "result.json", record)
    del record["evaluation"]["top1"]
    with pytest.raises(UsageError, match=r"evaluation\.top1 is missing"):
        write_record(tmp_path / "result.json", record)


def test_a_misspelled_key_gets_the_nearest(tmp_path):
    with pytest.raises(UsageError, match=r"unknown key evaluation\.imgaes, did you mean evaluation\.images\?"):
        write_record(tmp_path / "result.json", dict(_record(), evaluation={"imgaes": 3}))


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b'"text"'])
def test_a_file_that_is_no_record_is_one_line(tmp_path, content):
    path = tmp_path / "result.json"
    path.write_bytes(content)
    with pytest.raises(UsageError) as error:
        read_record(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_and_a_missing_folder_are_the_users_to_mend(tmp_path):
    with pytest.raises(UsageError, match="cannot read"):
        read_record(tmp_path / "result.json")
    with pytest.raises(UsageError, match="cannot write"):
        write_record(tmp_path / "nowhere" / "result.json", _record())
