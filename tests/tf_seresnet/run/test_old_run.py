"""The old port's ./model goes on: its variables, momentum included, at the epoch that its logs.txt says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

LINE = "epoch: %d/160, train_loss: 0.1234, train_acc: 0.9876"  # an NPU's ends without a line end


def _variables(step: Path):
    reader = tf.compat.v1.train.load_checkpoint(str(step / "model.ckpt"))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def _old_place(folder: Path, run, momentum: bool = True) -> Path:
    """./model and ./logs.txt as the old program leaves them after an epoch, with this run's variables after its first.

    The log begins with seven epochs of an earlier start.
    """
    tf1, model = tf.compat.v1, folder / "model"
    model.mkdir()
    with tf.Graph().as_default(), tf1.Session() as session:
        for name, value in _variables(run.folder / "checkpoints" / "step-00000003").items():
            if momentum or not name.endswith("/Momentum"):
                tf1.get_variable(name, initializer=value, use_resource=False)
        tf1.get_variable("is_training", initializer=True, use_resource=False)  # tflearn's
        session.run(tf1.global_variables_initializer())
        tf1.train.Saver(tf1.global_variables()).save(session, str(model / "senet110.ckpt"))
    (folder / "logs.txt").write_text("".join(LINE % number for number in (*range(1, 8), 1)))
    return model


def test_the_second_epoch_is_that_of_the_uninterrupted_run(finished, train, tmp_path, capsys):
    whole = finished()
    model = _old_place(tmp_path, whole)
    assert train("--resume", str(model), name="rest").status == 0
    out = capsys.readouterr().out
    expected, found = whole.weights(), _variables(tmp_path / "rest" / "checkpoints" / "last")
    assert sum(name.endswith("/Momentum") for name in expected) > 10
    assert set(expected) == set(found)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, name)
    assert (
        f"{model}/senet110.ckpt, 1 epoch done, as {tmp_path}/logs.txt says, 3 steps; goes on with epoch 2 of 2" in out
    )
    assert "taken from it: weights, moving averages, momentum of " in out
    assert "not in it: order of the images, images seen" in out


@pytest.mark.once
def test_what_does_not_fit_is_refused(finished, train, tmp_path, capsys):
    model = _old_place(tmp_path, finished())
    for words, said in (
        (["--epochs", "1"], "has 1 epoch done, as"),
        (["--max-steps", "3"], "3 steps, and sample ends after 3; give the old run's --recipe, or more --epochs"),
        (["--checkpoint", str(model)], "exclude each other"),
    ):
        assert train("--resume", str(model), *words, name="refused").status == 2
        assert said in capsys.readouterr().err
    assert train("--resume", str(tmp_path / "run" / "model.ckpt"), name="refused").status == 2
    assert "run/model.ckpt has weights but no training state" in capsys.readouterr().err
    (tmp_path / "logs.txt").unlink()
    assert train("--resume", str(model), name="refused").status == 2
    assert "no training state, and there is no logs.txt of the old port beside its folder" in capsys.readouterr().err
    assert not (tmp_path / "refused").exists()


@pytest.mark.slow
@pytest.mark.once
def test_momentum_that_is_not_there_is_zero_and_another_network_is_named(finished, train, tmp_path, capsys):
    model = _old_place(tmp_path, finished(), momentum=False)
    assert train("--resume", str(model), "--max-steps", "4", name="rest").status == 0
    assert "best accuracy, momentum (zero here)" in capsys.readouterr().out
    assert train("--variant", "port", "--depth", "11", "--resume", str(model), name="other").status == 2
    assert "it is of another network: check --depth and --variant" in capsys.readouterr().err
