"""What batches need of shared memory, said where there is less."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

from torch_imagenet.input_pipeline import shared_memory  # noqa: E402
from torch_imagenet.input_pipeline.dataset import load_data  # noqa: E402
from torch_imagenet.options import RunConfig  # noqa: E402


@pytest.fixture
def setup(tiny):
    """Of 21 images to train on in batches of 4, and 10 to evaluate on in batches of 1, of 32 x 32 pixels."""
    words = ["--data-path", str(tiny.folder), "--workers", "2", "--decoder", "pillow"]
    config = RunConfig.from_argv(words)
    recipe, ranks = SimpleNamespace(image_size=32, batch_size=4), SimpleNamespace(size=1, local_size=1)
    return SimpleNamespace(config=config, data=load_data(config), recipe=recipe, ranks=ranks, eval_batch_size=1)


def _notes(setup, monkeypatch, free):
    status = SimpleNamespace(f_bavail=free // 1024, f_frsize=1024)
    monkeypatch.setattr(os, "statvfs", lambda folder: status)
    return shared_memory.notes(setup)


@pytest.mark.parametrize(
    ("workers", "steps", "batches"),
    [(1, 100, 4), (8, 100, 18), (8, 3, 5)],  # two a worker ahead, two that are read
)
def test_what_is_needed_is_what_torchs_loader_makes_ahead(workers, steps, batches):
    assert shared_memory.needed(workers, steps, 128, 224) == batches * 128 * 224 * 224 * 3
    assert torch.utils.data.DataLoader([0], num_workers=1).prefetch_factor == shared_memory._AHEAD


def test_a_line_where_it_is_less_and_none_where_it_is_enough(setup, monkeypatch):
    enough = 6 * 4 * 32 * 32 * 3  # of training: 2 workers, each two batches ahead
    assert _notes(setup, monkeypatch, enough) == []
    (line,) = _notes(setup, monkeypatch, enough - 1024)
    assert line.startswith("batches may take 0 MiB of shared memory, and /dev/shm has 0 MiB free; raise its limit")


def test_the_ranks_of_a_machine_share_it(setup, monkeypatch):
    setup.ranks.local_size = 2
    setup.recipe.image_size = 512
    (line,) = _notes(setup, monkeypatch, 20 * 2**20)
    assert line.startswith("batches may take 2 x 18 MiB of shared memory, and /dev/shm has 20 MiB free")
    assert _notes(setup, monkeypatch, 36 * 2**20) == []


def test_nothing_is_said_of_synthetic_images_or_where_there_is_no_such_folder(setup, tmp_path):
    assert shared_memory.notes(setup, str(tmp_path / "none")) == []
    setup.data = None
    assert shared_memory.notes(setup) == []
