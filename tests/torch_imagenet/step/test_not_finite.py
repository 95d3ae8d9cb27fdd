"""Weights that are numbers and answers that are not: one rule in every mode, and no record."""

from __future__ import annotations

import shutil

import pytest

torch = pytest.importorskip("torch")

from tests.torch_imagenet.small_network import SmallNetwork  # noqa: E402
from torch_imagenet.step import not_finite  # noqa: E402

LAYER = "layer1.1 (weight 1 to 1, bias 0 to 0, running_mean -3e+38 to 0, running_var 0.001 to 1)"


def _overflowing(network, mean="running_mean", variance="running_var"):
    """Statistics that training does not use, all finite, and beyond float32 once an evaluation normalises by them."""
    layer = network.layer1[1]
    getattr(layer, mean)[0], getattr(layer, variance)[0] = -3e38, 1e-3
    return network


@pytest.fixture
def weights(tmp_path, tiny):
    torch.manual_seed(0)
    path = tmp_path / "weights.pth"
    torch.save(_overflowing(SmallNetwork(tiny.classes, 0.0, 0.0)).state_dict(), path)
    return path


def _refused(run, capsys):
    error = capsys.readouterr().err.splitlines()[-1]
    assert run.status == 2
    assert not (run.folder / "result.json").exists()
    assert not (run.folder / "model.pth").exists()
    return error


@pytest.mark.parametrize("mode", ["train", "finetune"])
def test_a_training_ends_without_a_result(mode, weights, run_in, tmp_path, capsys):
    options = ["--checkpoint", str(weights), "--learning-rate", "1e-9", "--max-steps", "5"]
    run = run_in(tmp_path / "run", *options, *(["--save-steps", "2"] if mode == "train" else []), mode=mode)
    error = _refused(run, capsys)
    assert error.startswith("error: the logits of 10 of 10 images are not finite, from layer1.1 (")
    assert "running_mean -1.77e+38 to" in error  # 0.9^5 of what it was
    assert error.endswith("and start from the last good checkpoint with --checkpoint")
    saved = sorted(path.name for path in (run.folder / "checkpoints").glob("step-*"))
    assert saved == (["step-00000002", "step-00000004"] if mode == "train" else [])
    assert not run.events("evaluation")


def test_a_later_epoch_leaves_the_checkpoint_of_the_one_before(run_in, tmp_path, capsys, monkeypatch):
    from shared.run.loop import Run

    original = Run.log_epoch

    def log_epoch(self, line):
        original(self, line)
        if self.progress.epoch == 1:
            _overflowing(self.step.network)

    monkeypatch.setattr(Run, "log_epoch", log_epoch)
    run = run_in(tmp_path / "run")
    assert "from layer1.1 (" in _refused(run, capsys)
    assert sorted(path.name for path in (run.folder / "checkpoints").glob("step-*")) == ["step-00000005"]
    for link in ("last", "best"):
        assert (run.folder / "checkpoints" / link).resolve().name == "step-00000005"
    assert [event["epoch"] for event in run.events("evaluation")] == [1]
    assert run_in(tmp_path / "evaluation", "--checkpoint", str(run.folder), mode="evaluate", plain=True).status == 0


def test_an_evaluation_says_the_same(weights, run_in, tiny, tmp_path, capsys):
    options = ["--checkpoint", str(weights), "--data-path", str(tiny.folder), "--image-size", "32", "--device", "cpu"]
    error = _refused(run_in(tmp_path / "run", *options, mode="evaluate", plain=True), capsys)
    assert error == (
        f"error: the logits of 10 of 10 images are not finite, from {LAYER} on; these weights have"
        " diverged, evaluate others with --checkpoint, or use --precision O0"
    )


@pytest.mark.parametrize("mode", ["benchmark", "profile"])
def test_a_measurement_of_no_numbers_is_none(mode, run_in, tmp_path, capsys):
    options = ["--image-size", "32", "--batch-size", "2", "--device", "cpu", "--max-steps", "3", "--num-classes", "5"]
    run = run_in(tmp_path / "run", *options, "--learning-rate", "1e30", plain=True, mode=mode)
    assert _refused(run, capsys).startswith("error: the loss is nan at step 8 (")


def test_images_that_cannot_be_read_are_no_evaluation_in_any_mode(tiny, run_in, tmp_path, capsys):
    data = tmp_path / "data"
    shutil.copytree(tiny.folder, data)
    for path in (data / "val").rglob("*.png"):
        path.write_bytes(b"")
    options = ["--data-path", str(data), "--on-bad-image", "skip", "--max-steps", "1"]
    run = run_in(tmp_path / "run", *options)
    assert _refused(run, capsys) == f"error: no image of {data} could be read; look at check-data"


def test_the_first_layer_in_the_order_of_computation_is_named():
    network = SmallNetwork(3, 0.0, 0.0).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert not_finite.layer_of(network, lambda: network(images)) is None
        network.fc.bias[0] = float("inf")
        assert not_finite.layer_of(network, lambda: network(images)).startswith("fc (weight ")
        _overflowing(network)
        assert not_finite.layer_of(network, lambda: network(images)) == LAYER
    assert not any(layer._forward_hooks for layer in network.modules())


def test_a_block_is_named_where_its_own_addition_overflows():
    class Doubled(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Identity()

        def forward(self, x):
            return self.layer(x) + x

    network = torch.nn.Sequential(Doubled(), torch.nn.Identity())
    assert not_finite.layer_of(network, lambda: network(torch.full((1,), 2e38))) == "0"


def test_statistics_are_named_before_weights():
    network = SmallNetwork(3, 0.0, 0.0)
    with torch.no_grad():
        for weight in network.parameters():
            weight.fill_(float("nan"))
    weights = dict(network.named_parameters())
    assert not_finite.in_state(network, weights).startswith(" (stem.0.weight first, ")
    network.layer1[1].running_var[0] = float("inf")
    assert not_finite.in_state(network, weights).startswith(" (layer1.1.running_var first, ")
