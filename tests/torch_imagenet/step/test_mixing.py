"""MixUp and CutMix: what they keep, what they draw from, and what happens without torchvision."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from shared import recipes  # noqa: E402
from shared.errors import UsageError  # noqa: E402
from shared.rng import epoch_mixes  # noqa: E402
from torch_imagenet.step.to_device import mixing  # noqa: E402


def _mixing(**changes):
    return mixing(recipes.get("se_resnet50_1p").override(**changes), 5)


def _batch():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(6, 3, 8, 8, generator=generator), torch.tensor([0, 1, 2, 3, 4, 0])


def test_nothing_is_mixed_unless_asked_for():
    assert _mixing() is None


@pytest.mark.parametrize("changes", [{"mixup": 0.2}, {"cutmix": 1.0}, {"mixup": 0.2, "cutmix": 1.0}])
def test_targets_are_probabilities_and_draws_follow_from_the_step(torchvision, changes):
    mixing = _mixing(**changes)
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first = mixing(*_batch(), 2, 5)
    assert torch.equal(before, torch.get_rng_state())
    again = mixing(*_batch(), 2, 5)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert first[1].dtype == torch.float32
    torch.testing.assert_close(first[1].sum(dim=1), torch.ones(6))
    others = [mixing(*_batch(), 2, step)[0] for step in range(6, 12)]
    assert any(not torch.equal(first[0], other) for other in others)


@pytest.mark.parametrize("changes", [{"mixup": 0.2}, {"cutmix": 1.0}])
def test_the_devices_generators_are_left_alone_and_the_layout_stays(torchvision, changes, monkeypatch):
    """torch.manual_seed would seed the device's generator too, and with it every step's dropout."""
    monkeypatch.setattr(torch, "manual_seed", lambda seed: pytest.fail("all generators are seeded"))
    images, labels = _batch()
    mixed, _ = _mixing(**changes)(images.to(memory_format=torch.channels_last), labels, 0, 0)
    assert mixed.is_contiguous(memory_format=torch.channels_last)


def test_mixup_is_the_papers(torchvision):
    images, labels = _batch()
    mixed, targets = _mixing(mixup=1.0)(images, labels, 0, 0)
    share = float(targets[1, 1])
    torch.testing.assert_close(mixed, share * images + (1 - share) * images.roll(1, 0))


def test_both_are_used_where_both_are_asked_for(torchvision):
    mixing = _mixing(mixup=0.5, cutmix=0.5)
    images, labels = _batch()
    kinds = {bool(torch.isin(mixing(images, labels, 0, step)[0], images).all()) for step in range(20)}
    assert kinds == {True, False}  # CutMix only moves pixels, MixUp makes new ones


@pytest.mark.parametrize("changes", [{"mixup": 0.2}, {"cutmix": 0.2}, {"erasing": 0.2}])
def test_without_torchvision_it_is_one_line(changes, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision.transforms", None)
    with pytest.raises(UsageError, match="needs torchvision, which does not load here .*; install"):
        _mixing(**changes)


@pytest.mark.parametrize("option", ["--mixup", "--cutmix", "--randaugment", "--erasing"])
def test_a_run_without_torchvision_ends_before_anything_is_written(option, run_in, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torchvision.transforms", None)
    run = run_in(tmp_path / "run", option, "2,9" if option == "--randaugment" else "0.2")
    assert run.status == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {option} needs torchvision, which does not load here (")
    assert f"install the one that belongs to torch {torch.__version__}, " in said
    assert said.count("\n") == 1
    assert not run.folder.exists()


def test_a_rectangle_of_some_images_is_erased_and_labels_stay(torchvision):
    images, labels = _batch()
    images, before = images.abs() + 1, images.abs() + 1
    draws = [_mixing(erasing=0.5)(images, labels, 0, step) for step in range(20)]
    assert torch.equal(images, before)
    assert all(targets is labels for _, targets in draws)
    erased = torch.stack([mixed for mixed, _ in draws]) == 0
    assert 0.3 < erased.flatten(2).any(2).float().mean() < 0.7
    for image in erased.flatten(0, 1):
        rows, columns = image[0].any(1), image[0].any(0)
        assert torch.equal(image, (rows[:, None] & columns).expand(3, 8, 8))
    again = _mixing(erasing=0.5)(images.to(memory_format=torch.channels_last), labels, 0, 3)[0]
    assert torch.equal(again, draws[3][0])
    assert again.is_contiguous(memory_format=torch.channels_last)


def test_an_erased_image_is_mixed_too(torchvision):
    images, labels = _batch()
    mixed, targets = _mixing(erasing=1.0, mixup=1.0)(images, labels, 0, 0)
    assert targets.shape == (6, 5)
    assert mixed.shape == images.shape


def test_a_run_with_all_of_them(torchvision, run_in, tmp_path):
    run = run_in(tmp_path / "run", "--mixup", "0.2", "--cutmix", "1", "--randaugment", "2,9", "--epochs", "1")
    assert run.status == 0
    assert run.recipe["mixup"] == 0.2


def test_the_boxes_that_the_cifar_half_draws_are_torchvisions(torchvision, monkeypatch):
    """`shared.rng.epoch_mixes` with the same random numbers; the one source of CutMix here that is not torchvision."""
    from torchvision.transforms import v2

    mixes, side = epoch_mixes(7, 1, 50, 32, cutmix=1.0), 32
    random = np.random.RandomState([7, 1, 7])
    random.random_sample((2, 50))
    shares = random.beta(1.0, 1.0, 50)
    random.beta(1.0, 1.0, 50)  # of MixUp, which is off
    centres = random.randint(0, side, size=(50, 2))
    images = torch.arange(2.0)[:, None, None, None].expand(2, 3, side, side)
    for box, label, share, (row, column) in zip(mixes.box, mixes.label, shares, centres):
        cutmix, drawn = v2.CutMix(num_classes=2), iter([column, row])
        monkeypatch.setattr(cutmix, "_dist", SimpleNamespace(sample=lambda size, share=share: torch.tensor(share)))
        monkeypatch.setattr(torch, "randint", lambda *_, drawn=drawn, **__: torch.tensor([next(drawn)]))
        mixed, targets = cutmix(images, torch.tensor([0, 1]))
        top, left, bottom, right = box
        expected = torch.zeros(side, side)
        expected[top:bottom, left:right] = 1
        assert torch.equal(mixed[0, 0], expected)
        assert float(targets[0, 0]) == pytest.approx(float(label), abs=1e-6)
