"""Classes are what batches.meta calls them: in evaluation, warm starts and resumption, from whatever was written."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from shared import class_names  # noqa: E402
from shared.cifar10 import dataset as batches  # noqa: E402
from shared.metrics import Metrics  # noqa: E402
from tf_seresnet.main import main  # noqa: E402

DIGITS = [str(digit) for digit in range(10)]
MIXED = ["3", "1", "4", "0", "5", "9", "2", "6", "8", "7"]

NETWORK = ("--variant", "paper", "--depth", "8")  # which weights alone do not say


def relabelled(source, folder, names, labels=None):
    """The sample with these label_names; `labels` gives each old label its new one, and leaves images of others out."""
    folder.mkdir()
    kept = {}
    for name in (*batches.TRAIN_FILES, batches.TEST_FILE):
        content = pickle.loads((source / name).read_bytes(), encoding="latin1")
        new = [label if labels is None else labels.get(label) for label in content["labels"]]
        rows = [row for row, label in enumerate(new) if label is not None]
        kept[name] = dict(content, data=content["data"][rows], labels=[new[row] for row in rows])
    cases = min(len(content["labels"]) for content in kept.values())
    for name, content in kept.items():
        part = dict(content, data=content["data"][:cases], labels=content["labels"][:cases])
        (folder / name).write_bytes(pickle.dumps(part, protocol=2))
    meta = pickle.loads((source / batches.META_FILE).read_bytes(), encoding="latin1")
    meta = dict(meta, label_names=list(names), num_cases_per_batch=cases)
    (folder / batches.META_FILE).write_bytes(pickle.dumps(meta, protocol=2))
    return folder


@pytest.fixture
def evaluate(tmp_path, capsys):
    """evaluate(data, *options) -> the run, and what it said."""
    from tests.tf_seresnet.conftest import Run

    def start(data, *options, name="evaluation"):
        folder = tmp_path / name
        capsys.readouterr()
        status = main(
            ["evaluate", "--device", "cpu", "--output-dir", str(folder), "--data-path", str(data), *map(str, options)]
        )
        output = capsys.readouterr()
        return Run(status, folder), output.out + output.err

    return start


def as_before(path):
    """The checkpoint as this project wrote it before names were stored."""
    state = json.loads((path / "state.json").read_text())
    del state["data"]["classes"], state["checksum"]
    (path / "state.json").write_text(json.dumps(dict(state, format=1)))


def test_checkpoint_config_record_and_weights_have_the_names(finished):
    run = finished()
    assert run.record["dataset"]["classes"] == DIGITS
    assert json.loads((run.folder / "config.json").read_text())["data"]["classes"] == DIGITS
    state = json.loads((run.folder / "checkpoints" / "last" / "state.json").read_text())
    assert state["data"]["classes"] == DIGITS
    assert list(class_names.read_beside(run.folder / "model.ckpt", 10).names) == DIGITS


def test_other_names_are_refused_and_named(finished, evaluate, sample_folder, tmp_path):
    run = finished()
    data = relabelled(sample_folder, tmp_path / "data", ["nought", *DIGITS[1:9], "nine"])
    for checkpoint in ("", "model.ckpt"):
        again, said = evaluate(data, "--checkpoint", run.folder / checkpoint, *NETWORK)
        assert again.status == 2
        assert "error: the data set has 2 classes that the network does not know (nought, nine), and lacks 2" in said
        assert not (again.folder / "result.json").exists()


@pytest.mark.parametrize("checkpoint", ["", "model.ckpt"])
def test_another_order_gives_the_result_of_the_training(checkpoint, finished, evaluate, sample_folder, tmp_path):
    run = finished()
    labels = {int(name): place for place, name in enumerate(MIXED)}
    data = relabelled(sample_folder, tmp_path / "data", MIXED, labels)
    again, said = evaluate(data, "--checkpoint", run.folder / checkpoint, *NETWORK)
    assert "note: the data set's classes have another order than the network's: matched by name" in said
    before, after = run.record["evaluation"], again.record["evaluation"]
    for key in ("images", "top1", "top5", "confusion", "per_class_accuracy"):
        assert after[key] == before[key]
    assert after["loss"] == pytest.approx(before["loss"], rel=1e-5)
    assert (again.record["dataset"]["classes"], after["classes"]) == (MIXED, DIGITS)


def test_names_in_another_order_over_the_same_labels_are_said(finished, evaluate, sample_folder, tmp_path):
    """The images that are called 3 are counted as 3, whatever their number is."""
    run = finished()
    again, said = evaluate(relabelled(sample_folder, tmp_path / "data", MIXED), "--checkpoint", run.folder)
    assert "note: the data set's classes have another order" in said
    before, after = run.record["evaluation"]["confusion"], again.record["evaluation"]["confusion"]
    assert after == [before[MIXED.index(digit)] for digit in DIGITS]


def test_a_part_of_the_classes_counts_as_it_did(finished, evaluate, sample_folder, tmp_path):
    run = finished()
    names = ["7", "2", "5"]
    data = relabelled(sample_folder, tmp_path / "data", names, {7: 0, 2: 1, 5: 2})
    test = pickle.loads((data / batches.TEST_FILE).read_bytes(), encoding="latin1")
    counts = np.bincount(test["labels"], minlength=3)
    free, said = evaluate(data, "--checkpoint", run.folder, name="free")
    assert "note: the data set has 3 classes of the network's 10: matched by name" in said
    assert "note: answers are all 10 classes of the network" in said
    confusion = np.array(free.record["evaluation"]["confusion"])
    assert [confusion[digit].sum() for digit in (7, 2, 5)] == counts.tolist()
    assert confusion.sum() == counts.sum()
    restricted, said = evaluate(data, "--checkpoint", run.folder, "--restrict-classes", name="restricted")
    result = restricted.record["evaluation"]
    assert result["restricted"] is True
    assert result["classes"] == ["2", "5", "7"]
    assert np.array(result["confusion"]).sum(axis=1).tolist() == [counts[1], counts[2], counts[0]]
    assert result["top1"] >= free.record["evaluation"]["top1"]
    assert restricted.record["parameters"] == run.record["parameters"]


def test_a_checkpoint_of_before_names_says_so_and_goes_on(finished, evaluate, sample_folder, tmp_path):
    run = finished()
    as_before(run.folder / "checkpoints" / "last")
    class_names.beside(run.folder / "model.ckpt").unlink()
    for checkpoint in ("", "model.ckpt"):
        again, said = evaluate(sample_folder, "--checkpoint", run.folder / checkpoint, *NETWORK)
        assert again.status == 0
        assert "note: the weights have no class names" in said
        assert again.record["evaluation"]["confusion"] == run.record["evaluation"]["confusion"]
    data = relabelled(sample_folder, tmp_path / "data", ["7", "2", "5"], {7: 0, 2: 1, 5: 2})
    fewer, said = evaluate(data, "--checkpoint", run.folder / "model.ckpt", *NETWORK, name="fewer")
    assert fewer.status == 2
    assert "the checkpoint has 10 classes and the data set 3, and the weights have no names to tell which" in said


def test_weights_alone_on_cifar_10_are_matched_by_its_names(finished, evaluate, sample_folder, tmp_path):
    run = finished()
    class_names.beside(run.folder / "model.ckpt").unlink()
    order = [class_names.CIFAR10[int(digit)] for digit in MIXED]
    labels = {int(name): place for place, name in enumerate(MIXED)}
    data = relabelled(sample_folder, tmp_path / "data", order, labels)
    again, said = evaluate(data, "--checkpoint", run.folder / "model.ckpt", *NETWORK)
    assert "note: the weights have no class names; their outputs are taken for CIFAR-10's classes in its order" in said
    assert again.record["evaluation"]["confusion"] == run.record["evaluation"]["confusion"]


@pytest.mark.slow
def test_a_new_run_takes_the_columns_of_its_classes(finished, train, sample_folder, tmp_path, capsys):
    run = finished()
    names = ["7", "2", "5"]
    data = relabelled(sample_folder, tmp_path / "data", names, {7: 0, 2: 1, 5: 2})
    for number, checkpoint in enumerate((run.folder, run.folder / "model.ckpt")):
        started = train(
            "--checkpoint",
            str(checkpoint),
            "--data-path",
            str(data),
            "--max-steps",
            "1",
            "--learning-rate",
            "1e-12",
            name=f"started{number}",
        )
        assert started.status == 0
        assert "note: the data set has 3 classes of the network's 10: matched by name" in capsys.readouterr().out
        before, after = run.weights(), started.weights()
        [head] = [name for name, value in after.items() if value.shape[1:] == (3,) and name.endswith("/kernel")]
        np.testing.assert_allclose(after[head], before[head][:, [7, 2, 5]], atol=1e-6)
        np.testing.assert_allclose(after["conv2d_3/kernel"], before["conv2d_3/kernel"], atol=1e-6)
    other = relabelled(sample_folder, tmp_path / "other", [f"digit {name}" for name in DIGITS])
    refused = train("--checkpoint", str(run.folder), "--data-path", str(other), name="refused")
    assert refused.status == 2
    assert "10 classes that the network does not know (digit 0, digit 1, digit 2, ...)" in capsys.readouterr().err
    assert not refused.folder.exists()


def test_a_run_goes_on_with_its_own_names_alone(finished, train, sample_folder, tmp_path, capsys):
    """Pixels and labels are the same, and so is the fingerprint: the names are all that differs."""
    run = finished()
    data = relabelled(sample_folder, tmp_path / "data", ["1", "0", *DIGITS[2:]])
    assert main(["--resume", str(run.folder), "--data-path", str(data), "--device", "cpu", "--epochs", "3"]) == 2
    assert "its classes are others (0 is 1 and was 0, 1 is 0 and was 1)" in capsys.readouterr().err


def test_answers_are_counted_over_the_columns_that_are_left():
    from types import SimpleNamespace

    from shared.run.example_predictions import MostConfident
    from shared.system.signals import Interrupts
    from tf_seresnet.devices.replicas import ALONE
    from tf_seresnet.evaluation import count_images

    class Inference:
        images_per_run, replicas = 2, ALONE

        def run(self, session, images):
            return np.tile(np.array([[0.0, 9.0, 1.0]], np.float32), (len(images), 1))

    images, labels = np.zeros((3, 32, 32, 3), np.uint8), np.array([0, 1, 1], np.int32)
    data = SimpleNamespace(test_images=images, test_labels=labels, path="data")
    classes = class_names.Match((0, 1), ("a", "c"), columns=(0, 2))
    setup = SimpleNamespace(data=data, evaluated_classes=classes, config=SimpleNamespace(mode="evaluate"))
    metrics = count_images(None, setup, Inference(), Interrupts(), MostConfident())
    assert isinstance(metrics, Metrics)
    assert metrics.confusion.tolist() == [[0, 1], [0, 2]]


@pytest.mark.slow
def test_the_keras_model_writes_names_and_drops_those_of_others(tmp_path, finished):
    pytest.importorskip("keras")
    if not hasattr(__import__("keras"), "ops"):
        pytest.skip("Keras 3 alone")
    from tf_seresnet.keras import load_checkpoint, save_checkpoint, se_resnet

    run = finished()
    model = se_resnet(depth=8, variant="paper")
    load_checkpoint(model, run.folder)
    save_checkpoint(model, tmp_path / "model.ckpt", class_names=DIGITS)
    assert list(class_names.read_beside(tmp_path / "model.ckpt", 10).names) == DIGITS
    save_checkpoint(model, tmp_path / "model.ckpt")
    assert not class_names.beside(tmp_path / "model.ckpt").exists()
