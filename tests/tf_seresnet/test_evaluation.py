"""The mode `evaluate`: exact at any batch size, from any checkpoint, never from random weights."""

from __future__ import annotations

import os

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from tests.tf_seresnet.golden import twenty_steps  # noqa: E402
from tf_seresnet.main import main  # noqa: E402


def evaluate(tmp_path, *options, name="evaluation"):
    from tests.tf_seresnet.conftest import Run

    folder = tmp_path / name
    return Run(main(["evaluate", "--device", "cpu", "--output-dir", str(folder), *map(str, options)]), folder)


def test_any_batch_size_gives_the_result_of_the_training(finished, tmp_path):
    run = finished()
    trained = run.record["evaluation"]
    for size in (1000, 128, 77, 1):
        record = evaluate(tmp_path, "--checkpoint", run.folder, "--batch-size", size, name=str(size)).record
        assert record["mode"] == "evaluate"
        assert record["evaluation"]["images"] == 299
        for key in ("top1", "top5", "confusion"):
            assert record["evaluation"][key] == trained[key]
        assert record["evaluation"]["loss"] == pytest.approx(trained["loss"], rel=1e-5)
        assert record["evaluation"]["checkpoint"].endswith("step-00000006/model.ckpt")


def test_the_documented_number_of_test_batches(finished, tmp_path):
    run = finished("--epochs", "1")
    record = evaluate(tmp_path, "--checkpoint", run.folder, "--test_iteration", "10").record
    assert (record["batch_size"], record["evaluation"]["images"]) == (30, 299)


def test_the_network_is_the_checkpoints_own(finished, tmp_path, capsys):
    run = finished()
    record = evaluate(tmp_path, "--checkpoint", run.folder).record
    assert (record["variant"], record["depth"]) == ("paper", 8)
    assert evaluate(tmp_path, "--checkpoint", run.folder, "--depth", "14").status == 2
    own = capsys.readouterr().err
    assert own.startswith("error: --depth 14 and the checkpoint is of depth ")
    assert own.endswith("; leave --depth out\n")


def test_a_bare_checkpoint_needs_to_be_told_its_network(finished, tmp_path, sample_folder, capsys):
    run = finished()
    bare = ["--checkpoint", run.folder / "model.ckpt", "--data-path", sample_folder, "--recipe", "sample"]
    record = evaluate(tmp_path, *bare, "--variant", "paper", "--depth", "8").record
    assert record["evaluation"]["top1"] == run.record["evaluation"]["top1"]
    capsys.readouterr()
    assert evaluate(tmp_path, *bare, name="wrong").status == 2
    error = capsys.readouterr().err
    assert "lacks" in error
    assert "check --depth and --variant" in error


def test_without_a_checkpoint_nothing_is_evaluated(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", "--device", "cpu"]) == 2
    assert capsys.readouterr().err.startswith("error: no checkpoint under ./runs; train first")
    assert os.listdir(str(tmp_path)) == []


def test_the_moving_averages_are_used_and_test_images_never_change_them(finished, tmp_path):
    """One image alone gives the logits that it has among others: batch statistics would not."""
    from shared.cifar10.dataset import load
    from tf_seresnet.step import variables
    from tf_seresnet.step.graph import Inference, NetworkSpec
    from tf_seresnet.step.input_pipeline import Normalisation

    run = finished()
    data = load(run.record["dataset"]["path"])
    normalise = Normalisation.from_images(data.train_images)
    with tf.Graph().as_default():
        network = NetworkSpec(8, "paper", "core", 10)
        inference = Inference(network, normalise, 8, reuse=False)
        with tf.compat.v1.Session() as session:
            variables.initialise(session, 0)
            variables.load_values(session, {n: v for n, v in run.weights().items() if "Momentum" not in n})
            together = inference.run(session, data.test_images[:8])
            alone = np.concatenate([inference.run(session, data.test_images[n : n + 1]) for n in range(8)])
            after = session.run({v.op.name: v for v in variables.model_variables()})
    np.testing.assert_allclose(alone, together, atol=1e-5)
    for name, value in after.items():
        np.testing.assert_array_equal(value, run.weights()[name])


def test_trained_weights_recognise_digits(train, tmp_path, sample_folder):
    """The golden weights through a bare checkpoint: what evaluation reports is an accuracy, not a number."""
    from pathlib import Path

    weights = twenty_steps.unpack(Path(__file__).resolve().parent / "golden" / "trained_depth11.npz")
    prefix = str(tmp_path / "trained.ckpt")
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        for name, value in weights.items():
            tf.compat.v1.get_variable(name, initializer=tf.constant(value))
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.train.Saver().save(session, prefix, write_meta_graph=False, write_state=False)
    record = evaluate(tmp_path, "--checkpoint", prefix, "--recipe", "sample", "--data-path", sample_folder).record
    assert record["evaluation"]["top1"] > 97


def test_the_record_of_a_training_is_not_overwritten(finished, tmp_path, capsys):
    run = finished("--epochs", "1")
    before = run.record
    assert evaluate(tmp_path, "--checkpoint", run.folder, name="run").status == 2
    assert "holds a training run" in capsys.readouterr().err
    assert run.record == before
