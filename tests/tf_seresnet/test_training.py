"""The mode `train`, whole: what it writes, that it learns, that both layer sets and all versions agree."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from shared.results.record import read_record  # noqa: E402
from tests.support.run_files import check_examples, check_tensorboard  # noqa: E402
from tests.tf_seresnet.conftest import PORT  # noqa: E402
from tests.tf_seresnet.golden import twenty_steps  # noqa: E402

GOLDEN = Path(__file__).resolve().parent / "golden"
OLD = tuple(int(part) for part in tf.__version__.split(".")[:2]) <= (2, 12)


def has_slim() -> bool:
    try:
        with tf.Graph().as_default():
            import tf_slim  # noqa: F401
            import tflearn  # noqa: F401
    except Exception:
        return False
    return OLD


def test_a_run_writes_every_file_and_a_valid_record(finished):
    run = finished()
    assert run.status == 0
    names = {path.name for path in run.folder.iterdir()}
    assert names >= {"config.json", "train.log", "events.jsonl", "checkpoints", "result.json", "model.ckpt.index"}
    record = read_record(run.folder / "result.json")
    assert record["evaluation"]["images"] == 299
    assert np.sum(record["evaluation"]["confusion"]) == 299
    assert (record["epochs_completed"], record["steps_completed"], record["images_trained"]) == (2, 6, 96)
    assert record["parameters"] == 75952
    assert record["recipe"] == "sample"
    assert record["dataset"]["name"] == "sample-digits"
    assert record["train"]["loss"] == pytest.approx(run.events("step")[-1]["loss"], abs=0)
    log = (run.folder / "train.log").read_text()
    assert "epoch: 2/2, train_loss: " in log
    assert "test_acc: " in log
    config = json.loads((run.folder / "config.json").read_text())
    assert config["recipe"]["epochs"] == 2
    assert not list(run.folder.glob(".*"))
    assert not list((run.folder / "checkpoints").glob(".*"))
    check_tensorboard(run.folder, record)
    check_examples(run.folder, record, (32, 32))


def test_the_moving_averages_are_updated_once_a_step(finished):
    weights = finished().weights()
    steps = {name: value for name, value in weights.items() if name.endswith("local_step")}
    assert len(steps) == 7
    assert all(value == 6 for value in steps.values())


@pytest.mark.once
def test_max_steps_ends_in_the_middle_of_an_epoch_with_an_evaluation(train):
    run = train("--max-steps", "4")
    assert (run.record["epochs_completed"], run.record["steps_completed"]) == (1, 4)
    assert [event["step"] for event in run.events("evaluation")] == [3, 4]
    assert run.record["evaluation"]["images"] == 299


@pytest.mark.once
@pytest.mark.slow
def test_the_same_seed_gives_the_same_run_and_another_seed_another(train, finished):
    first, second, other = finished(), train(name="b"), train("--seed", "1", name="c")
    assert first.events() == second.events()
    for name, value in first.weights().items():
        np.testing.assert_array_equal(value, second.weights()[name])
    assert first.events("step") != other.events("step")


@pytest.mark.slow
def test_weight_decay_covers_every_trainable_variable(train):
    """With a learning rate so small that gradients hardly count, one step moves each variable by its decay."""
    plain = train(*PORT, "--max-steps", "1", "--weight-decay", "0", name="plain").weights()
    decayed = train(*PORT, "--max-steps", "1", "--weight-decay", "1", name="decayed").weights()
    from tf_seresnet.layers.initial_values import initial_value

    rate = 0.05 * 1.9  # the sample's first warm-up rate; the first Nesterov step is 1 + momentum times the gradient
    trained = [name for name in plain if name + "/Momentum" in plain]
    assert len(trained) == 73
    for name in trained:
        start = initial_value(name, plain[name].shape, seed=0)
        np.testing.assert_allclose(plain[name] - decayed[name], rate * start, atol=2e-6)


@pytest.mark.once
@pytest.mark.slow
def test_the_loss_weighs_a_short_batch_by_its_images(train):
    run = train("--batch-size", "100", "--steps-per-epoch", "20", "--epochs", "1", "--learning-rate", "1e-12")
    steps = run.events("step")
    assert len(steps) == 15  # 14 of 100 images and one of 95
    assert run.record["images_trained"] == 1495
    weighted = sum(step["step_loss"] * images for step, images in zip(steps, [100] * 14 + [95])) / 1495
    assert run.record["train"]["loss"] == pytest.approx(weighted, rel=1e-12)


@pytest.mark.once
def test_the_first_of_the_twenty_steps_have_their_golden_losses(sample_folder, monkeypatch):
    monkeypatch.setenv("KIT_CACHE", str(sample_folder.parents[2]))
    golden = json.loads((GOLDEN / "twenty_steps.json").read_text())
    losses = twenty_steps.losses(twenty_steps.unpack(GOLDEN / "trained_depth11.npz"), "core", 5)
    np.testing.assert_allclose(losses, golden[:5], rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("layers", ["core", "slim"])
def test_twenty_steps_from_trained_weights_agree_between_tensorflow_versions(layers, sample_folder, monkeypatch):
    """Golden losses of TensorFlow 2.21 with oneDNN. Measured: 1.15.5 within 1.1e-5, 2.6.5 1.3e-5, 2.12.1 3e-7."""
    if layers == "slim" and not has_slim():
        pytest.skip("slim and tflearn run up to TensorFlow 2.12 and are not installed here")
    monkeypatch.setenv("KIT_CACHE", str(sample_folder.parents[2]))
    golden = json.loads((GOLDEN / "twenty_steps.json").read_text())
    losses = twenty_steps.losses(twenty_steps.unpack(GOLDEN / "trained_depth11.npz"), layers)
    assert len(losses) == 20
    np.testing.assert_allclose(losses, golden, rtol=0, atol=1e-4)


@pytest.mark.once
@pytest.mark.slow
def test_the_golden_losses_notice_another_optimizer(sample_folder, monkeypatch):
    """Otherwise agreement would prove nothing: a tenth more learning rate must not pass."""
    monkeypatch.setenv("KIT_CACHE", str(sample_folder.parents[2]))
    monkeypatch.setattr(twenty_steps, "RATE", 0.011)
    golden = json.loads((GOLDEN / "twenty_steps.json").read_text())
    losses = twenty_steps.losses(twenty_steps.unpack(GOLDEN / "trained_depth11.npz"), "core")
    assert np.max(np.abs(np.subtract(losses, golden))) > 1e-4


@pytest.mark.slow
def test_slim_and_core_train_alike(train):
    if not has_slim():
        pytest.skip("slim and tflearn run up to TensorFlow 2.12 and are not installed here")
    core, slim = train(*PORT, name="core"), train(*PORT, "--layers", "slim", name="slim")
    assert core.events() == slim.events()
    for name, value in core.weights().items():
        np.testing.assert_array_equal(value, slim.weights()[name], err_msg=name)


@pytest.mark.slow
def test_the_port_trains(train):
    run = train(*PORT)
    assert run.status == 0
    assert (run.record["variant"], run.record["network"], run.record["parameters"]) == ("port", "se_resnet11", 324102)


def test_a_loss_that_is_no_number_stops_the_run(train, capsys):
    run = train("--learning-rate", "1e30")
    assert run.status == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.match(r"error: the loss is (nan|inf) at step \d \(\S+ first, \d+ tensors in all\); ", error)
    assert not (run.folder / "result.json").exists()


@pytest.mark.once
@pytest.mark.slow
def test_a_second_run_in_the_same_folder_loses_nothing_of_the_first(train):
    first = train("--epochs", "1")
    record, weights = first.record, first.weights()
    second = train("--epochs", "1", "--seed", "1")
    assert "is now in" in (second.folder / "train.log").read_text()
    kept = type(first)(0, first.folder / "previous-1")
    assert kept.record == record
    for name, value in weights.items():
        np.testing.assert_array_equal(kept.weights()[name], value)
    assert second.record["seed"] == 1
    assert len(second.events("evaluation")) == 1
    assert sorted(path.name for path in (second.folder / "checkpoints").glob("step-*")) == ["step-00000003"]
