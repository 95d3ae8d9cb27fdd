"""Batches of which batch normalisation would see a single value a channel: said at once, or the step is left out."""

from __future__ import annotations

import shutil

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from shared import recipes  # noqa: E402
from shared.errors import UsageError  # noqa: E402
from tests.torch_imagenet.small_network import SmallNetwork  # noqa: E402
from torch_imagenet.devices import out_of_memory  # noqa: E402
from torch_imagenet.devices.device import open_device  # noqa: E402
from torch_imagenet.networks import spec as network_spec  # noqa: E402
from torch_imagenet.networks.spec import NetworkSpec  # noqa: E402
from torch_imagenet.run.setup import least_batch  # noqa: E402


class OnePixel(SmallNetwork):
    """At 32 pixels the last batch normalisation has a map of 1 x 1, as the real networks' have."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.layer2 = nn.Sequential(nn.Conv2d(16, 16, 3, stride=16, padding=1, bias=False), nn.BatchNorm2d(16))

    def forward(self, images):
        features = self.layer2(torch.relu(self.stem(images)))
        return self.fc(features.mean(dim=(2, 3)))


@pytest.fixture
def one_pixel(run_in, monkeypatch):
    """run_in with `OnePixel` for a network."""
    monkeypatch.setattr(
        network_spec, "create", lambda name, num_classes, dropout, drop_path, **_: OnePixel(num_classes, 0.0, 0.0)
    )
    return lambda folder, *options, **words: run_in(folder, *options, real=True, **words)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "changes", "least"),
    [
        ("se_resnet50", 32, {}, 2),
        ("se_resnet50", 33, {}, 1),
        ("se_resnet50_caffe", 32, {}, 2),
        ("se_resnet50", 32, {"freeze_body": True}, 1),
        ("senet154", 32, {}, 2),
        ("senet154", 64, {}, 1),
        ("pnasnet5large", 331, {}, 2),
        ("pnasnet5large", 331, {"auxiliary_weight": 0.0}, 1),
    ],
)
def test_the_smallest_batch_of_every_network(name, size, changes, least):
    """PNASNet's auxiliary head ends in a map of 1 x 1 at every image size."""
    base = {"se_resnet50_caffe": "se_resnet50"}.get(name, name) + "_1p"
    recipe = recipes.get(base).override(network=name, image_size=size, batch_size=2, **changes)
    spec = NetworkSpec.from_recipe(recipe, 3)
    assert least_batch(spec, recipe) == least
    network = spec.make()
    if changes.get("freeze_body"):
        network.eval()
    images = torch.zeros(1, 3, size, size)
    if size == 331:  # by what torch says of the head alone: the whole network takes half a minute
        network, images = network.aux or nn.Identity(), torch.zeros(1, 4320, 11, 11)
    if least == 2:
        with pytest.raises(ValueError, match="more than 1 value per channel"), torch.no_grad():
            network(images)
    else:
        with torch.no_grad():
            network(images)


@pytest.mark.parametrize("mode", ["train", "finetune", "benchmark", "profile"])
def test_a_batch_of_one_is_refused_before_anything_is_written(mode, one_pixel, tiny, tmp_path, capsys):
    weights = tmp_path / "weights.pth"
    torch.save(OnePixel(tiny.classes, 0.0, 0.0).state_dict(), weights)
    options = ["--image-size", "32", "--batch-size", "1", "--device", "cpu", "--max-steps", "1"]
    if mode in ("train", "finetune"):
        options += ["--data-path", str(tiny.folder), "--checkpoint", str(weights)]
    run = one_pixel(tmp_path / "run", *options, mode=mode, plain=True)
    assert run.status == 2
    assert capsys.readouterr().err == (
        "error: a batch of one image cannot be trained on: with images of 32 pixels layer2.1 would normalise a single"
        " value of each channel; use --batch-size 2 or more\n"
    )
    assert not run.folder.exists()


@pytest.mark.parametrize("options", [["--freeze-body"], ["--image-size", "64"]])
def test_a_batch_of_one_is_trained_where_it_can_be(options, one_pixel, tmp_path):
    assert one_pixel(tmp_path / "run", "--batch-size", "1", *options, "--max-steps", "2").status == 0


@pytest.fixture
def spoilt(tiny, tmp_path):
    """spoilt(position, ...) -> the data with those images of the first epoch's order damaged."""
    from shared import imagenet

    def make(*positions, seed=49):
        data = tmp_path / "data"
        shutil.copytree(tiny.folder, data)
        split = imagenet.load(data).train
        order = split.epoch_order(seed, 0)
        for position in positions:
            (data / "train" / split.name(int(order[position]))).write_bytes(b"")
        return ["--data-path", str(data), "--on-bad-image", "skip", "--batch-size", "2", "--epochs", "1"]

    return make


@pytest.mark.parametrize(("bad", "images"), [((2,), 18), ((2, 3), 18), ((0, 19), 16)])
def test_a_step_of_too_few_images_is_left_out(bad, images, spoilt, one_pixel, tmp_path, capsys):
    """One that is left, or none: the step is left out, whichever it is, and the run goes on."""
    run = one_pixel(tmp_path / "run", *spoilt(*bad))
    assert run.status == 0
    record = run.record
    assert (record["steps_completed"], record["images_trained"], record["bad_images"]) == (10, images, len(bad))
    left_out = sorted({position // 2 + 1 for position in bad})
    text = (run.folder / "train.log").read_text()
    for step in left_out:
        assert f"note: step {step} has no batch of 2 images that can be read; it is left out" in text
    assert text.count("is left out") == len(left_out)
    assert all(torch.isfinite(value).all() for value in run.training()["network"].values())


def test_a_step_that_is_left_out_changes_nothing_and_is_resumed_over(spoilt, one_pixel, tmp_path):
    options = [*spoilt(2), "--save-steps", "1", "--keep", "20"]
    whole = one_pixel(tmp_path / "whole", *options)
    saved = [whole.folder / "checkpoints" / f"step-{step:08d}" / "training.pth" for step in (1, 2)]
    before, after = (torch.load(path, weights_only=True)["network"] for path in saved)
    assert all(torch.equal(before[name], after[name]) for name in before)
    part = one_pixel(tmp_path / "part", *options, "--max-steps", "2")
    resumed = one_pixel(part.folder, *options, "--resume", str(part.folder), plain=False)
    assert resumed.status == 0
    for name, value in whole.training()["network"].items():
        assert torch.equal(value, resumed.training()["network"][name]), name


def test_accumulated_batches_go_on_without_the_one_that_is_too_small(spoilt, one_pixel, tmp_path):
    run = one_pixel(tmp_path / "run", *spoilt(2), "--accumulate", "2")
    assert run.status == 0
    assert (run.record["steps_completed"], run.record["images_trained"]) == (5, 18)
    assert "is left out" not in (run.folder / "train.log").read_text()


def test_an_epoch_without_a_step_is_one_line(spoilt, one_pixel, tmp_path, capsys):
    run = one_pixel(tmp_path / "run", *spoilt(*range(21)))
    assert run.status == 2
    expected = "error: not one step of a whole epoch has images that can be read; run check-data on the data set"
    assert capsys.readouterr().err.splitlines()[-1] == expected


def test_a_trial_after_memory_has_run_out_may_end_at_one_image():
    """A batch of two does not fit and one of one cannot be normalised: nothing fits, and that is no defect."""

    def attempt(size):
        raise ValueError("Expected more than 1 value per channel when training, got input size [1, 16, 1, 1]")

    assert out_of_memory.fitting(2, attempt, open_device("cpu")) is None


def test_memory_that_runs_out_over_the_smallest_batch_is_one_line(one_pixel, tmp_path, monkeypatch, capsys):
    from torch_imagenet.step.training_step import TrainingStep

    original = TrainingStep._loss

    def loss(self, forward, batch, *arguments):
        if len(batch.labels) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(self, forward, batch, *arguments)

    monkeypatch.setattr(TrainingStep, "_loss", loss)
    assert one_pixel(tmp_path / "run", "--batch-size", "4").status == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: this machine has no memory left for a batch of 4, nor for a smaller one; ")


def test_a_batch_of_two_is_no_mistake():
    recipe = recipes.get("se_resnet50_1p").override(image_size=32, batch_size=1)
    with pytest.raises(UsageError, match="with images of 32 pixels layer4.0.bn2 would normalise"):
        least_batch(NetworkSpec.from_recipe(recipe, 3), recipe)
    assert least_batch(NetworkSpec.from_recipe(recipe, 3), recipe.override(batch_size=2)) == 2
