"""benchmarks/contenders of the CIFAR-10 half: both sides train the same network, and the rows run."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from benchmarks.contenders import cifar10_step  # noqa: E402
from tests.benchmarks.rows_run import run_rows  # noqa: E402

OPTIONS = {"depth": 11, "batch": 4, "device": "cpu", "precision": "O0"}


def test_the_originals_crops_are_of_the_padded_image():
    image = np.arange(1, 32 * 32 * 3 + 1, dtype=np.float32).reshape(1, 32, 32, 3)
    batch = cifar10_step.originals_batch(image, np.random.RandomState(1))
    assert batch.shape == (1, 32, 32, 3)
    assert batch.dtype == np.float32
    padded = np.pad(image[0], ((4, 4), (4, 4), (0, 0)))
    places = [padded[top : top + 32, left : left + 32] for top in range(9) for left in range(9)]
    mirrored = np.pad(image[0][:, ::-1], ((4, 4), (4, 4), (0, 0)))
    places += [mirrored[top : top + 32, left : left + 32] for top in range(9) for left in range(9)]
    assert sum(np.array_equal(batch[0], place) for place in places) == 1


def test_the_set_up_is_that_of_the_documented_recipe(sample_folder):
    setup = cifar10_step.setup_of(OPTIONS)
    assert (setup.recipe.depth, setup.recipe.variant, setup.recipe.batch_size) == (11, "port", 4)
    assert (setup.recipe.momentum, setup.recipe.weight_decay) == (0.9, 1e-4)
    images = cifar10_step.normalised(setup.data)
    assert np.abs(images.mean((0, 1, 2))).max() < 1e-3
    assert np.abs(images.std((0, 1, 2)) - 1).max() < 5e-3  # summed in float32


@pytest.mark.slow
def test_a_row_runs_at_the_smallest_size(tmp_path, capsys):
    names = ["start-cifar10"]
    run_rows(tmp_path, *names)
    assert sorted(path.stem for path in (tmp_path / "cpu").iterdir()) == sorted(names)
    assert "failed" not in capsys.readouterr().out
