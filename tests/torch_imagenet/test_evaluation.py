"""Every image is counted once at any batch size, from whatever the training wrote."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests.torch_imagenet.conftest import import_torchvision  # noqa: E402
from tests.torch_imagenet.small_network import SmallNetwork  # noqa: E402


@pytest.fixture(scope="module")
def trained(run_in, tmp_path_factory):
    return run_in(tmp_path_factory.mktemp("trained") / "run")


@pytest.fixture
def evaluate(run_in, tiny, tmp_path):
    def start(*options, name="evaluation", data=None):
        arguments = ["--data-path", str(data or tiny.folder), "--device", "cpu", "--workers", "1", *options]
        return run_in(tmp_path / name, *arguments, plain=True, mode="evaluate")

    return start


@pytest.mark.parametrize("batch_size", [1, 3, 4, 7, 64])
def test_every_batch_size_counts_every_image_once(batch_size, trained, evaluate, tiny):
    run = evaluate("--checkpoint", str(trained.folder), "--batch-size", str(batch_size))
    assert run.status == 0
    result = run.record["evaluation"]
    assert result["images"] == tiny.val_images
    assert sum(map(sum, result["confusion"])) == tiny.val_images
    wanted = trained.record["evaluation"]
    assert result["top1"] == wanted["top1"]
    assert result["confusion"] == wanted["confusion"]
    assert result["loss"] == pytest.approx(wanted["loss"], rel=1e-5)


def test_it_is_what_a_loop_in_plain_torch_counts(trained, evaluate, tiny):
    torchvision = import_torchvision()
    transforms = torchvision.transforms
    folder = torchvision.datasets.ImageFolder(
        str(tiny.folder / "val"),
        transforms.Compose(
            [
                transforms.Resize(36),
                transforms.CenterCrop(32),
                transforms.ToTensor(),
                transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
            ]
        ),
    )
    network = SmallNetwork(tiny.classes, 0.0, 0.0)
    network.load_state_dict(torch.load(trained.folder / "model.pth", weights_only=True))
    network.eval()
    with torch.no_grad():
        logits = torch.stack([network(image[None])[0] for image, _ in folder])
    labels = torch.tensor([label for _, label in folder])
    result = evaluate("--checkpoint", str(trained.folder)).record["evaluation"]
    assert result["top1"] == 100 * float((logits.argmax(1) == labels).double().mean())
    assert result["loss"] == pytest.approx(float(torch.nn.functional.cross_entropy(logits, labels)), rel=1e-4)


def test_a_file_of_weights_a_checkpoint_and_a_run_give_the_same(trained, evaluate):
    results = [
        evaluate("--checkpoint", str(path), *more, name=f"e{number}").record["evaluation"]["loss"]
        for number, (path, more) in enumerate(
            [
                (trained.folder, []),
                (trained.folder / "checkpoints" / "last", []),
                (trained.folder / "model.pth", ["--network", "se_resnet50", "--image-size", "32"]),
            ]
        )
    ]
    assert len(set(results)) == 1


def test_the_newest_run_is_evaluated_where_nothing_is_named(trained, evaluate, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained.folder, tmp_path / "runs" / "mine", symlinks=True)
    assert evaluate().record["evaluation"]["checkpoint"].endswith("runs/mine/checkpoints/step-00000010")


def test_without_a_checkpoint_nothing_is_evaluated(evaluate, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert evaluate().status == 2
    assert "error: no checkpoint" in capsys.readouterr().err


def test_a_bad_image_is_fatal_or_left_out_named_and_counted(trained, evaluate, tiny, tmp_path, capsys):
    data = tmp_path / "data"
    shutil.copytree(tiny.folder, data)
    (data / "val" / "class1" / "image01.png").write_bytes(b"no image")
    assert evaluate("--checkpoint", str(trained.folder), data=data, name="fatal").status == 2
    error = capsys.readouterr().err
    assert "image01.png" in error
    assert "--on-bad-image skip" in error
    run = evaluate("--checkpoint", str(trained.folder), "--on-bad-image", "skip", data=data, name="skip")
    assert run.status == 0
    assert run.record["evaluation"]["images"] == tiny.val_images - 1
    assert run.record["evaluation"]["skipped"] == 1
    text = (run.folder / "train.log").read_text()
    assert text.count("image01.png") == 1
    assert "bad images left out: 0 in training, 1 in the evaluation" in text
    assert " images, 1 of " in text  # beside the accuracy too


def test_a_checkpoint_of_other_classes_is_refused(trained, evaluate, tiny, tmp_path, capsys):
    data = tmp_path / "data"
    shutil.copytree(tiny.folder, data)
    shutil.copytree(data / "val" / "class2", data / "val" / "class3")
    assert evaluate("--checkpoint", str(trained.folder), data=data).status == 2
    assert "the data set has 1 class that the network does not know (class3)" in capsys.readouterr().err


def test_a_pickle_that_would_run_code_is_refused(evaluate, tmp_path, capsys):
    import os

    class Hostile:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'executed'}",)

    torch.save({"state_dict": Hostile()}, tmp_path / "hostile.pth")
    assert evaluate("--checkpoint", str(tmp_path / "hostile.pth"), "--network", "se_resnet50").status == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not (tmp_path / "executed").exists()


def test_calibration_and_classes_are_in_the_record(trained, evaluate, tiny):
    result = evaluate("--checkpoint", str(trained.folder)).record["evaluation"]
    assert 0 <= result["expected_calibration_error"] <= 100
    confusion = np.array(result["confusion"])
    accuracy = 100 * confusion.diagonal() / confusion.sum(axis=1)
    assert result["per_class_accuracy"] == pytest.approx(accuracy.tolist())


def test_images_are_squeezed_where_the_run_has_squeezed_them(run_in, tmp_path):
    """In its own evaluations, in those of its checkpoint, of a resumed run and in its record."""
    squeezed = run_in(tmp_path / "squeezed", "--do-not-preserve-aspect-ratio", "--max-steps", "2")
    assert squeezed.record["keep_aspect"] is False
    loss = squeezed.record["evaluation"]["loss"]
    again = run_in(tmp_path / "again", "--checkpoint", str(squeezed.folder), mode="evaluate")
    assert (again.record["keep_aspect"], again.record["evaluation"]["loss"]) == (False, pytest.approx(loss, rel=1e-6))
    note = "note: images are squeezed to a square where they are evaluated"
    assert note in (again.folder / "train.log").read_text()
    resumed = run_in(tmp_path / "squeezed", "--resume", str(squeezed.folder), "--max-steps", "2", plain=True)
    assert resumed.record["evaluation"]["loss"] == pytest.approx(loss, rel=1e-6)
    model = run_in(tmp_path / "model", "--checkpoint", str(squeezed.folder / "model.pth"), mode="evaluate")
    assert "keep_aspect" not in model.record
    assert model.record["evaluation"]["loss"] != pytest.approx(loss, rel=1e-6)  # or the images are squares


def test_a_file_of_a_checkpoint_is_evaluated_as_the_checkpoint(run_in, tmp_path):
    """With the averages of its weights, and normalised as it was trained."""
    run = run_in(tmp_path / "run", "--ema-decay", "0.5", "--normalisation", "none", "--max-steps", "2")
    file = run.folder / "checkpoints" / "last" / "training.pth"
    found = run_in(tmp_path / "found", "--checkpoint", str(file), mode="evaluate")
    assert found.record["evaluation"]["loss"] == pytest.approx(run.record["evaluation"]["loss"], rel=1e-6)
    assert found.record["normalisation"] == "none"
