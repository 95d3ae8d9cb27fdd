"""Weights that are numbers and answers that are not: one rule in every mode, and no record."""

from __future__ import annotations

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from tests.tf_seresnet.conftest import Run  # noqa: E402
from tf_seresnet import evaluation  # noqa: E402
from tf_seresnet.main import main  # noqa: E402
from tf_seresnet.step import training_step  # noqa: E402

tf1 = tf.compat.v1
LAYER = "BatchNorm_2"


def _overflow(session):
    """Statistics that training does not use, all finite, and beyond float32 once an evaluation normalises by them."""
    for variable in tf1.global_variables():
        value = {f"{LAYER}/moving_mean": -3e38, f"{LAYER}/moving_variance": 1e-3}.get(variable.op.name)
        if value is not None:
            content = session.run(variable)
            content[0] = value
            variable.load(content, session)


@pytest.fixture
def overflowing(monkeypatch):
    """overflowing(number) spoils the statistics before the evaluation of this number, from 0."""
    original, done = evaluation.count_images, []

    def start(number):
        def count(session, *arguments, **words):
            if len(done) == number:
                _overflow(session)
            done.append(1)
            return original(session, *arguments, **words)

        monkeypatch.setattr(evaluation, "count_images", count)

    return start


def _refused(run, capsys):
    error = capsys.readouterr().err.splitlines()[-1]
    assert run.status == 2
    assert not (run.folder / "result.json").exists()
    return error


def test_a_training_ends_without_a_result_and_keeps_the_checkpoint_before(train, overflowing, capsys):
    overflowing(1)
    run = train()
    error = _refused(run, capsys)
    assert error.startswith(f"error: the logits of 299 of 299 images are not finite, from {LAYER} (beta "), error
    assert "moving_mean -3e+38 to" in error
    assert error.endswith("and start from the last good checkpoint with --checkpoint")
    assert not list(run.folder.glob("model.ckpt*"))
    assert [path.name for path in (run.folder / "checkpoints").glob("step-*")] == ["step-00000003"]
    assert (run.folder / "checkpoints" / "last").resolve().name == "step-00000003"
    assert [event["epoch"] for event in run.events("evaluation")] == [1]


@pytest.mark.slow
@pytest.mark.once
def test_an_evaluation_says_the_same(finished, overflowing, tmp_path, capsys):
    trained = finished()
    overflowing(0)
    folder = tmp_path / "evaluation"
    arguments = ["evaluate", "--device", "cpu", "--checkpoint", str(trained.folder), "--output-dir", str(folder)]
    error = _refused(Run(main(arguments), folder), capsys)
    assert f"the logits of 299 of 299 images are not finite, from {LAYER} (" in error
    assert error.endswith("; these weights have diverged, evaluate others with --checkpoint, or use --precision O0")


@pytest.mark.slow
@pytest.mark.once
def test_a_weight_that_is_no_number_is_named(train, capsys, monkeypatch):
    original = training_step.TrainingStep.read

    def read(self, pending):
        result, session = original(self, pending), self._session
        variable = next(one for one in tf1.trainable_variables() if one.op.name == "conv2d_3/kernel")
        variable.load(np.full(variable.shape.as_list(), np.nan, np.float32), session)
        return result

    monkeypatch.setattr(training_step.TrainingStep, "read", read)
    error = _refused(train("--save-steps", "1"), capsys)
    assert error.startswith("error: a weight is not a number after step 1 (conv2d_3/kernel first, 1 tensors in all); ")
