"""The moving average of the weights: its numbers, and who reads which weights."""

from __future__ import annotations

import functools

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from shared import recipes  # noqa: E402
from tests.tf_seresnet.conftest import Run  # noqa: E402
from tf_seresnet import devices  # noqa: E402
from tf_seresnet.step import variables  # noqa: E402
from tf_seresnet.step.graph import NetworkSpec  # noqa: E402
from tf_seresnet.step.input_pipeline import Normalisation, TrainingInput  # noqa: E402
from tf_seresnet.step.training_step import TrainingStep  # noqa: E402

tf1 = tf.compat.v1
DECAY = 0.15  # the ramp t / (9 + t) ends in step 2


def test_it_is_the_moving_average_and_exchanging_it_twice_changes_nothing():
    random = np.random.RandomState(0)
    images, labels = random.randint(0, 256, (32, 32, 32, 3)).astype(np.uint8), np.arange(32, dtype=np.int32) % 10
    recipe = recipes.get("sample").override(batch_size=8, ema_decay=DECAY)
    with tf.Graph().as_default(), tf1.Session() as session:
        batch = TrainingInput(images, labels, Normalisation.from_images(images), recipe, devices.open_device("cpu"))
        step = TrainingStep(NetworkSpec(8, "paper", "core", 10), batch)
        variables.initialise(session, 0)
        batch.start_epoch(session, 0)
        own = {one.op.name: one for one in variables.model_variables()}
        everything = functools.partial(session.run, {one.op.name: one for one in tf1.global_variables()})
        step.average.swap(session)  # there is no average yet
        average = None
        for number in range(4):
            step.run(session, 0.1)
            weights = session.run(own)
            decay = min(DECAY, number / (9 + number))
            average = average or weights
            average = {name: decay * average[name] + (1 - decay) * weights[name] for name in weights}
        before = everything()
        averaged, count = step.average.applied(session, lambda *given: (session.run(own), given))(1, 2)
        after = everything()
    assert count == (1, 2)
    for name, value in averaged.items():
        if name.endswith(("/biased", "/local_step")):
            np.testing.assert_array_equal(value, weights[name])
        else:
            np.testing.assert_allclose(value, average[name], rtol=1e-5, atol=1e-6, err_msg=name)
    assert not np.allclose(averaged["conv2d/kernel"], weights["conv2d/kernel"], atol=1e-4)
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value, err_msg=name)


@pytest.mark.slow
@pytest.mark.once
def test_every_reader_of_a_run_has_the_evaluated_weights(train, sample_folder, tmp_path):
    from tf_seresnet.main import main

    run = train("--ema-decay", "0.9")
    assert "with: ema-decay 0.9" in (run.folder / "train.log").read_text()
    assert run.record["changes"] == ["ema-decay 0.9"]
    words = ["evaluate", "--device", "cpu", "--data-path", str(sample_folder)]
    for number, checkpoint in enumerate((run.folder, run.folder / "checkpoints" / "last")):
        folder = tmp_path / str(number)
        evaluated = Run(main([*words, "--checkpoint", str(checkpoint), "--output-dir", str(folder)]), folder)
        assert evaluated.record["evaluation"]["loss"] == run.record["evaluation"]["loss"]
    reader = tf1.train.load_checkpoint(str(run.folder / "model.ckpt"))
    weights = run.weights()
    assert set(weights) - set(reader.get_variable_to_shape_map()) >= {"weight_average/vector"}
    np.testing.assert_array_equal(reader.get_tensor("conv2d/kernel"), weights["conv2d/kernel"])
    trained = weights["weight_average/vector"][: weights["conv2d/kernel"].size]
    assert 1e-5 < np.abs(trained - weights["conv2d/kernel"].ravel()).max() < 1
