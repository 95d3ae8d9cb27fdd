"""Exact resumption: a run that was stopped at any moment and continued is the run that was not stopped."""

from __future__ import annotations

import functools
import io
import json
import shutil
import sys

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from shared import recipes  # noqa: E402
from tests.tf_seresnet.conftest import PORT, SHORT, Run  # noqa: E402
from tf_seresnet import devices  # noqa: E402
from tf_seresnet.run import checkpoints  # noqa: E402
from tf_seresnet.step.graph import NetworkSpec  # noqa: E402
from tf_seresnet.step.input_pipeline import Normalisation, TrainingInput  # noqa: E402
from tf_seresnet.step.training_step import TrainingStep  # noqa: E402
from tf_seresnet.step.variables import initialise  # noqa: E402

tf1 = tf.compat.v1


def assert_same(run, reference):
    assert run.events() == reference.events()
    weights, wanted = run.weights(), reference.weights()
    assert weights.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_array_equal(weights[name], value, err_msg=name)
    assert run.record["evaluation"]["loss"] == reference.record["evaluation"]["loss"]
    for key in ("train", "best", "steps_completed", "images_trained", "epochs_completed"):
        assert run.record[key] == reference.record[key], key


MODERN = (
    "--every-step --label-smoothing 0.1 --mixup 0.2 --cutmix 1 --cutout 8 --drop-path 0.2 --zero-init --ema-decay 0.9"
).split()
HALVES = ["--eval-batch-size", "150"]  # two inference steps an evaluation, so that it can be stopped in between


@pytest.mark.parametrize("modern", [False, True])
def test_a_step_from_a_checkpoint_is_the_step_that_followed(modern, tmp_path):
    """Bit for bit in every variable: weights, momentum, moving averages; and with the same images."""
    random = np.random.RandomState(0)
    images, labels = random.randint(0, 256, (20, 32, 32, 3)).astype(np.uint8), np.arange(20, dtype=np.int32) % 10
    with tf.Graph().as_default():
        network, device = NetworkSpec(8, "paper", "core", 10), devices.open_device("cpu")
        recipe = recipes.get("sample").override(batch_size=8, flip=True)
        if modern:
            options = {"cutout": 8, "mixup": 0.4, "cutmix": 1.0, "drop_path": 0.3, "ema_decay": 0.5, "depth": 8}
            recipe = recipe.override(variant="paper", label_smoothing=0.1, decayed="weights", **options)
        batch = TrainingInput(images, labels, Normalisation.from_images(images), recipe, device)
        step, kept = TrainingStep(network, batch), None
        ended = []
        for begin in (0, 1):
            with tf1.Session() as session:
                initialise(session, seed=begin)
                kept = kept or checkpoints.writer(session, tmp_path, 1, {})
                if begin:
                    found = checkpoints.Found(str(tmp_path / "checkpoints" / "last" / "model.ckpt"), None, [])
                    checkpoints.restore(session, found, checkpoints.saved_variables())
                    step.average.swap(session)
                batch.start_epoch(session, 0, begin)
                for number in range(begin, 2):
                    loss = step.run(session, 0.1).loss
                    if number == 0:
                        step.average.applied(session, kept)({"progress": {"step": 1}}, False)
                ended.append((loss, session.run({v.op.name: v for v in checkpoints.saved_variables()})))
    (loss, variables), (loss_again, variables_again) = ended
    assert loss_again == loss
    assert sum(name.endswith("/Momentum") for name in variables) > 20
    for name, value in variables.items():
        np.testing.assert_array_equal(variables_again[name], value, err_msg=name)


@pytest.fixture(scope="module")
def undisturbed(sample_folder, tmp_path_factory):
    """undisturbed(*options): the run that nobody stopped."""
    from tf_seresnet.main import main

    @functools.lru_cache(maxsize=None)
    def trained(*options):
        folder = tmp_path_factory.mktemp("reference") / "run"
        given = [*SHORT, "--device", "cpu", "--data-path", str(sample_folder), *HALVES, *options]
        return Run(main([*given, "--output-dir", str(folder)]), folder)

    return trained


@pytest.fixture
def reference(undisturbed):
    return undisturbed()


# In the first step, in the last of an epoch, in the first and last of the next, in both evaluations.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "count", "options"),
    [
        ("step", 4, ()),
        ("inference", 1, PORT),
        pytest.param("step", 5, tuple(MODERN), marks=pytest.mark.once),
        *(
            pytest.param(*where, (), marks=pytest.mark.once)
            for where in (("step", 1), ("step", 3), ("step", 6), ("inference", 1), ("inference", 3))
        ),
    ],
)
def test_stopped_at_any_step_and_resumed_is_the_uninterrupted_run(
    train, undisturbed, stop_after, monkeypatch, what, count, options
):
    reference = undisturbed(*options)
    stop_after(what, count)
    stopped = train(*HALVES, *options)
    assert stopped.status == 143
    assert not (stopped.folder / "result.json").exists()
    monkeypatch.undo()
    before = json.loads((stopped.folder / "checkpoints" / "last" / "state.json").read_text())["history"]
    resumed = train("--resume", str(stopped.folder), "--print-freq", "1", *HALVES, short=False)
    assert resumed.status == 0
    assert_same(resumed, reference)
    assert resumed.record["started"] == before["started"]
    assert resumed.record["seconds"] > before["seconds"] > 0


class Gone(io.StringIO):
    """A console whose reader leaves before the first line with these words."""

    def __init__(self, words):
        super().__init__()
        self.words = words

    def write(self, text):
        if self.words and self.words in text:
            self.words = None
            raise BrokenPipeError(32, "Broken pipe")
        return super().write(text)


@pytest.mark.once
@pytest.mark.slow
@pytest.mark.parametrize("words", ["step: 2/3", "train_loss"])
def test_a_reader_that_goes_away_stops_the_run_like_a_signal(train, reference, monkeypatch, words):
    monkeypatch.setattr(sys, "stdout", Gone(words))
    stopped = train(*HALVES)
    assert stopped.status == 141
    assert not (stopped.folder / "result.json").exists()
    assert words in (stopped.folder / "train.log").read_text()
    monkeypatch.undo()
    assert_same(train("--resume", str(stopped.folder), "--print-freq", "1", *HALVES, short=False), reference)


@pytest.mark.once
@pytest.mark.slow
def test_resumed_in_another_folder_leaves_the_first_alone(train, reference, stop_after, monkeypatch):
    stop_after("step", 4)
    stopped = train(name="stopped")
    monkeypatch.undo()
    before = sorted(path.name for path in (stopped.folder / "checkpoints").iterdir())
    resumed = train("--resume", str(stopped.folder), "--print-freq", "1", name="elsewhere", short=False)
    assert sorted(path.name for path in (stopped.folder / "checkpoints").iterdir()) == before
    for name, value in reference.weights().items():
        np.testing.assert_array_equal(resumed.weights()[name], value)


@pytest.mark.once
@pytest.mark.slow
def test_more_epochs_may_be_asked_for(train):
    first = train("--epochs", "1", "--scheduler", "step")
    longer = train("--resume", str(first.folder), "--epochs", "2", "--print-freq", "1", short=False)
    whole = train("--scheduler", "step", name="whole")
    assert longer.record["epochs_completed"] == 2
    for name, value in whole.weights().items():
        np.testing.assert_array_equal(longer.weights()[name], value)


@pytest.mark.once
@pytest.mark.slow
def test_a_finished_run_is_evaluated_again_and_nothing_more(train, finished):
    first = finished()
    again = train("--resume", str(first.folder), short=False)
    assert again.status == 0
    assert again.record["steps_completed"] == 6
    assert again.record["evaluation"]["loss"] == first.record["evaluation"]["loss"]


@pytest.mark.once
@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--batch-size", "8"], "--batch-size 8"),
        (["--seed", "5"], "--seed 5"),
        (["--depth", "14"], "--depth 14"),
        (["--learning-rate", "0.3"], "--learning-rate 0.3"),
        (["--recipe", "se_resnet110_gpu"], "--recipe se_resnet110_gpu"),
    ],
)
def test_an_option_that_contradicts_the_run_is_refused(train, finished, capsys, options, named):
    first = finished("--epochs", "1")
    capsys.readouterr()
    assert train("--resume", str(first.folder), *options, short=False).status == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1
    assert error[0].startswith(f"error: {named} contradicts")


@pytest.mark.once
def test_fewer_epochs_than_are_done_are_refused(train, finished, capsys):
    first = finished()
    before = first.record
    capsys.readouterr()
    assert train("--resume", str(first.folder), "--epochs", "1", short=False).status == 2
    assert "error: the run is in epoch 2 already and --epochs 1 lies before that; " in capsys.readouterr().err
    assert first.record == before


@pytest.mark.once
def test_another_data_set_is_refused(train, finished, sample_folder, tmp_path, capsys):
    first = finished("--epochs", "1")
    other = tmp_path / "other"
    shutil.copytree(str(sample_folder), str(other))
    first_batch, second_batch = other / "data_batch_1", other / "data_batch_2"
    swapped = first_batch.read_bytes()
    first_batch.write_bytes(second_batch.read_bytes())
    second_batch.write_bytes(swapped)
    capsys.readouterr()
    assert train("--resume", str(first.folder), "--data-path", str(other), short=False).status == 2
    assert "is not the data set that the run was trained on" in capsys.readouterr().err
