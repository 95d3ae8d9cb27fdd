"""The embedded digits are scikit-learn's, and are never taken damaged."""

from __future__ import annotations

import hashlib
import zlib
from pathlib import Path

import numpy as np
import pytest

from shared.errors import DataError
from shared.sample import dataset

ROOT = Path(__file__).resolve().parents[3]


def test_they_are_scikit_learns_in_its_order():
    datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn is what they are compared with")
    images, labels = dataset.load_digits()
    theirs = datasets.load_digits()
    np.testing.assert_array_equal(images, theirs.images)
    np.testing.assert_array_equal(labels, theirs.target)


def test_shapes_and_ranges():
    images, labels = dataset.load_digits()
    assert (images.shape, images.dtype, images.min(), images.max()) == ((1797, 8, 8), np.uint8, 0, 16)
    assert (labels.shape, labels.dtype) == ((1797,), np.int64)
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]  # as its documentation


def test_the_file_is_small_and_holds_nothing_else():
    stored = (ROOT / "shared" / "sample" / "digits.bin").read_bytes()
    assert len(stored) < 60_000
    assert len(zlib.decompress(stored)) == 1797 * 65


@pytest.mark.parametrize("damage", ["flipped", "cut", "recompressed", "empty"])
def test_a_damaged_file_is_refused_in_one_line(tmp_path, monkeypatch, damage):
    stored = (ROOT / "shared" / "sample" / "digits.bin").read_bytes()
    content = {
        "flipped": stored[:1000] + bytes([stored[1000] ^ 1]) + stored[1001:],
        "cut": stored[:-1],
        "recompressed": zlib.compress(bytes(1797 * 65), 9),
        "empty": b"",
    }[damage]
    monkeypatch.setattr(dataset, "_FILE", tmp_path / "digits.bin")
    (tmp_path / "digits.bin").write_bytes(content)
    with pytest.raises(DataError, match=r"digits\.bin is damaged; install this project again") as caught:
        dataset.load_digits()
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset, "_FILE", tmp_path / "digits.bin")
    with pytest.raises(DataError, match=r"cannot read .*digits\.bin \(No such file or directory\); install"):
        dataset.load_digits()


def test_the_checksum_is_of_the_file():
    assert hashlib.sha256((ROOT / "shared" / "sample" / "digits.bin").read_bytes()).hexdigest() == dataset._SHA256
