"""A stopped and resumed run is the uninterrupted run: weights bit for bit, events, the record's numbers."""

from __future__ import annotations

import json
import os
import signal

import pytest

torch = pytest.importorskip("torch")

from tests.torch_imagenet.distributed.jobs import DRIVER, Job  # noqa: E402

# Dropout and drop-path draw from torch's generator, crops and flips from (seed, epoch, image).
RANDOM = ["--dropout", "0.3", "--drop-path", "0.3", "--print-freq", "2"]


def _stop_at(monkeypatch, step, number=signal.SIGTERM):
    """The signal comes while this step (counted from 1 over the process) is being computed."""
    from torch_imagenet.step.training_step import TrainingStep

    original, done = TrainingStep.run, []

    def run(self, *arguments):
        done.append(1)
        if len(done) == step:
            os.kill(os.getpid(), number)
        return original(self, *arguments)

    monkeypatch.setattr(TrainingStep, "run", run)


def _same(first, second):
    one, other = first.training(), second.training()
    for part in ("network", "average"):
        assert set(one.get(part, {})) == set(other.get(part, {}))
        for name, value in one.get(part, {}).items():
            assert torch.equal(value, other[part][name]), f"{part} {name}"
    for key, state in one["optimizer"]["state"].items():
        assert torch.equal(state["momentum_buffer"], other["optimizer"]["state"][key]["momentum_buffer"])
    assert one["loss_scale"] == other["loss_scale"]
    assert first.events() == second.events()
    for part in ("train", "evaluation", "best", "epochs_completed", "steps_completed", "images_trained"):
        a, b = first.record[part], second.record[part]
        if part == "evaluation":
            a, b = ({key: value for key, value in c.items() if key != "checkpoint"} for c in (a, b))
        assert a == b, part


@pytest.fixture(scope="module")
def undisturbed(run_in, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    run = run_in(folder, *RANDOM)
    assert run.status == 0
    return run


@pytest.mark.parametrize("step", [1, 3, 5, 6, 8, 10])
def test_stopped_at_any_step_and_resumed_is_the_uninterrupted_run(step, undisturbed, run_in, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        _stop_at(patched, step)
        stopped = run_in(tmp_path / "run", *RANDOM)
    assert stopped.status == 143
    assert not (stopped.folder / "result.json").exists()
    before = json.loads((stopped.folder / "checkpoints" / "last" / "state.json").read_text())["history"]
    assert run_in(tmp_path / "run", "--resume", str(stopped.folder), "--print-freq", "2", plain=True).status == 0
    _same(stopped, undisturbed)
    assert stopped.record["started"] == before["started"]
    assert stopped.record["seconds"] > before["seconds"] > 0


@pytest.mark.parametrize(
    "options",
    [
        ["--precision", "O2", "--loss-scale", "dynamic"],
        ["--precision", "bf16", "--ema-decay", "0.9"],
        ["--accumulate", "2", "--clip-norm", "1", "--save-steps", "2"],
    ],
)
def test_every_part_of_the_state_is_kept(options, run_in, tmp_path, monkeypatch):
    whole = run_in(tmp_path / "whole", *RANDOM, *options)
    assert whole.status == 0
    with monkeypatch.context() as patched:
        _stop_at(patched, 2, signal.SIGINT)
        stopped = run_in(tmp_path / "run", *RANDOM, *options)
    assert stopped.status == 130
    resume = ["--resume", str(stopped.folder), "--print-freq", "2"]
    assert run_in(tmp_path / "run", *resume, plain=True).status == 0
    _same(stopped, whole)


def test_a_file_with_an_originals_name_has_all_of_the_run(run_in, tmp_path, capsys):
    """Weights and their average, masters, momentum, loss scale, progress: the rest of the run in another folder."""
    options = [*RANDOM, "--precision", "O2", "--loss-scale", "dynamic", "--ema-decay", "0.9"]
    whole = run_in(tmp_path / "whole", *options)
    first = run_in(tmp_path / "first", *options, "--original-names", "--max-steps", "5")
    file = tmp_path / "model_best.pth.tar"
    os.rename(first.folder / file.name, file)  # it needs nothing beside it
    rest = run_in(tmp_path / "rest", "--resume", str(file), "--print-freq", "2", plain=True)
    assert (whole.status, first.status, rest.status) == (0, 0, 0)
    assert f"resumed: {file} at step 5" in (rest.folder / "train.log").read_text()
    events = whole.events()
    assert [event for event in events if event.get("step", 0) > 5] == [one for one in rest.events() if one.get("step")]
    (whole.folder / "events.jsonl").write_text((rest.folder / "events.jsonl").read_text())
    _same(rest, whole)
    assert run_in(tmp_path / "no", "--resume", str(file), "--learning-rate", "3", plain=True).status == 2
    assert "--learning-rate 3.0 contradicts the run that is resumed" in capsys.readouterr().err


def test_another_recipe_or_data_set_is_not_the_same_run(undisturbed, run_in, tmp_path, capsys):
    resume = ["--resume", str(undisturbed.folder)]
    assert run_in(tmp_path / "a", *resume, "--learning-rate", "0.3", plain=True).status == 2
    assert "--learning-rate 0.3 contradicts the run that is resumed" in capsys.readouterr().err
    assert run_in(tmp_path / "a", *resume, "--epochs", "1", plain=True).status == 2
    assert "the run is in epoch 2 already and --epochs 1 lies before that; " in capsys.readouterr().err
    assert run_in(tmp_path / "b", *resume, "--checkpoint", "x", plain=True).status == 2
    assert "exclude each other" in capsys.readouterr().err


def test_a_fine_tuning_that_is_resumed_stays_one(undisturbed, run_in, tiny, tmp_path, monkeypatch):
    options = ["--checkpoint", str(undisturbed.folder), "--batch-size", "4", "--epochs", "1", "--workers", "1"]
    with monkeypatch.context() as patched:
        _stop_at(patched, 2)
        arguments = [*options, "--data-path", str(tiny.folder), "--device", "cpu"]
        stopped = run_in(tmp_path / "run", *arguments, plain=True, mode="finetune")
    assert stopped.status == 143
    assert run_in(tmp_path / "run", "--resume", str(stopped.folder), plain=True).status == 0
    assert stopped.record["mode"] == "finetune"
    assert stopped.record["recipe"] == "imagenet_finetune"


@pytest.mark.slow
def test_a_process_that_is_told_to_stop_leaves_a_checkpoint_that_goes_on(undisturbed, tmp_path):
    """The same through the command line, with workers, and the signal sent to a real process.

    All with one thread: sums over another number of threads are rounded otherwise.
    """
    folder = tmp_path / "run"
    words = [*undisturbed.options, "--output-dir", str(folder)]
    stopped = Job([DRIVER, *words], tmp_path / "stopped", real=True)
    stopped.wait_for("Epoch: [0][1/")
    stopped.process.send_signal(signal.SIGTERM)
    assert stopped.end() == 143, stopped.text
    assert "continue exactly with --resume" in stopped.text
    words = ["train", "--resume", str(folder), "--print-freq", "2", "--device", "cpu"]
    resumed = Job([DRIVER, *words], tmp_path / "resumed", real=True)
    assert resumed.end() == 0, resumed.text
    _same(undisturbed.at(folder), undisturbed)


def test_stopped_in_the_last_evaluation_of_a_shortened_run(run_in, tmp_path, monkeypatch):
    """No epoch has ended, so nothing has been the best yet when the run goes on."""
    from shared.system.signals import Stopped
    from torch_imagenet.input_pipeline.loader import EvaluationInput

    images = EvaluationInput.__iter__

    def stop_instead(*arguments):
        raise Stopped(15)

    monkeypatch.setattr(EvaluationInput, "__iter__", stop_instead)
    stopped = run_in(tmp_path / "run", "--max-steps", "3")
    assert stopped.status == 143
    monkeypatch.setattr(EvaluationInput, "__iter__", images)
    resumed = run_in(tmp_path / "run", "--max-steps", "3", "--resume", str(tmp_path / "run"))
    whole = run_in(tmp_path / "whole", "--max-steps", "3")
    assert (resumed.status, whole.status) == (0, 0)
    assert resumed.record["best"] == whole.record["best"]
    assert resumed.record["evaluation"]["confusion"] == whole.record["evaluation"]["confusion"]
