"""The embedded sample is the same everywhere, and whole whenever it is there."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from shared import cifar10
from shared.errors import UsageError
from shared.sample import dataset
from tests.support import python2_pickle

REPOSITORY = Path(__file__).resolve().parents[3]
FINGERPRINT = "20c8568afcedfadf9e4323873ee9fde18bb9697d347e67b42e4d543c45c030b8"


@pytest.fixture(scope="module")
def data(sample_folder):
    return cifar10.load(sample_folder)


@pytest.fixture(scope="module")
def jpeg_folder(tmp_path_factory):
    pytest.importorskip("PIL", reason="the sample as JPEGs needs Pillow")
    return dataset.imagenet_folder(tmp_path_factory.mktemp("cache"))


# -- content -------------------------------------------------------------------------------------


def test_the_sample_is_the_same_everywhere(data):
    assert data.name == dataset.NAME == "sample-digits"
    assert data.label_names == tuple("0123456789")
    assert data.train_images.shape == (1495, 32, 32, 3)
    assert data.test_images.shape == (299, 32, 32, 3)
    assert data.fingerprint == FINGERPRINT


def test_the_files_are_ordinary_pickles(sample_folder):
    """Other people's programs read them as they read CIFAR-10: https://www.cs.toronto.edu/~kriz/cifar.html."""
    values = pickle.loads((sample_folder / "test_batch").read_bytes(), encoding="bytes")
    values = {key if isinstance(key, str) else key.decode(): value for key, value in values.items()}
    assert sorted(values) == ["batch_label", "data", "filenames", "labels"]
    assert (values["data"].shape, values["data"].dtype) == ((299, 3072), np.uint8)


def test_the_folder_of_an_earlier_version_is_taken(sample_folder, tmp_path):
    """Earlier versions wrote Python 2's dialect."""
    folder = tmp_path / "se-pnas-kit" / "sample-v1" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for path in sample_folder.iterdir():
        (folder / path.name).write_bytes(python2_pickle.dumps(pickle.loads(path.read_bytes())))
    before = stamps(folder)
    assert dataset.cifar10_folder(tmp_path) == folder
    assert stamps(folder) == before
    assert cifar10.load(folder).fingerprint == FINGERPRINT


def test_the_images_are_the_digits_split_without_overlap(data):
    small, targets = dataset.load_digits()
    order = np.random.RandomState(0).permutation(1797)
    assert len(set(order[:1794])) == 1794
    labels = np.concatenate([data.train_labels, data.test_labels])
    np.testing.assert_array_equal(labels, targets[order[:1794]])
    images = np.concatenate([data.train_images, data.test_images])
    assert (images == images[..., :1]).all(), "grey"
    # The mean of the four pixels amid each 4 x 4 block lies near the pixel that became the block.
    inner = images[..., 0].reshape(-1, 8, 4, 8, 4)[:, :, 1:3, :, 1:3].mean(axis=(2, 4))
    original = small[order[:1794]] * (255 / 16)
    assert np.abs(inner - original).mean() < 12
    assert np.corrcoef(inner.ravel(), original.ravel())[0, 1] > 0.99


def test_every_class_is_in_both_parts(data):
    assert np.bincount(data.train_labels, minlength=10).min() > 100
    assert np.bincount(data.test_labels, minlength=10).min() > 20


@pytest.mark.parametrize("factor", [4, 8])
def test_enlarging_is_bilinear(factor):
    small = np.random.RandomState(1).randint(0, 17, (5, 8, 8)).astype(np.uint8)
    enlarged = dataset._enlarged(small, factor)
    assert enlarged.shape == (5, 8 * factor, 8 * factor)
    assert enlarged.dtype == np.uint8
    at = np.clip((np.arange(8 * factor) + 0.5) / factor - 0.5, 0, 7)
    rows = np.array([[np.interp(at, np.arange(8), row) for row in digit] for digit in small])
    columns = np.array([[np.interp(at, np.arange(8), row) for row in digit.T] for digit in rows])
    both = columns.transpose(0, 2, 1)
    assert np.abs(enlarged - both * 255 / 16).max() <= 0.5 + 1e-9


@pytest.mark.parametrize(("shade", "value"), [(0, 0), (8, 128), (16, 255)])
def test_enlarging_keeps_a_flat_shade(shade, value):
    assert (dataset._enlarged(np.full((1, 8, 8), shade, np.uint8), 4) == value).all()


def test_the_jpegs_are_the_same_split(jpeg_folder, data):
    from PIL import Image

    for part, labels, images in [
        ("train", data.train_labels, data.train_images),
        ("val", data.test_labels, data.test_images),
    ]:
        folders = sorted(path.name for path in (jpeg_folder / part).iterdir())
        assert folders == list("0123456789")
        counts = [len(list((jpeg_folder / part / name).iterdir())) for name in folders]
        assert counts == np.bincount(labels).tolist()
        first = 0 if part == "train" else 1495
        for index in (0, 7, len(labels) - 1):
            name = f"digit_{labels[index]}_{first + index:04d}.JPEG"
            path = jpeg_folder / part / str(labels[index]) / name
            with Image.open(str(path)) as picture:
                assert (picture.format, picture.mode, picture.size) == ("JPEG", "RGB", (64, 64))
                small = np.asarray(picture.resize((32, 32), Image.BOX), np.int64)
            assert np.abs(small - images[index]).mean() < 8


def test_the_jpegs_have_names_of_their_own(jpeg_folder):
    names = [path.name for path in jpeg_folder.glob("*/*/*")]
    assert len(names) == len(set(names)) == 1794


# -- the cache -----------------------------------------------------------------------------------


def stamps(folder):
    return {path.name: (path.stat().st_mtime_ns, path.stat().st_ino) for path in folder.iterdir()}


def test_the_second_call_takes_what_is_there(tmp_path, monkeypatch):
    folder = dataset.cifar10_folder(tmp_path)
    assert folder == tmp_path / "se-pnas-kit" / "sample-v1" / "cifar-10-batches-py"
    before = stamps(folder)
    monkeypatch.setattr(dataset, "load_digits", None)  # not even asked for
    assert dataset.cifar10_folder(tmp_path) == folder
    assert stamps(folder) == before


def test_nothing_else_is_left_in_the_cache(tmp_path):
    folder = dataset.cifar10_folder(tmp_path)
    assert os.listdir(str(folder.parent)) == [folder.name]
    assert len(os.listdir(str(folder))) == 7


def test_the_folder_is_as_open_as_others(tmp_path):
    (tmp_path / "usual").mkdir()
    assert dataset.cifar10_folder(tmp_path).stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "no meta", "no folder"])
def test_what_is_incomplete_is_made_again(tmp_path, damage):
    folder = dataset.cifar10_folder(tmp_path)
    path = folder / "data_batch_3"
    if damage == "missing":
        path.unlink()
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:1000])
    elif damage == "no meta":
        (folder / "batches.meta").unlink()
    else:
        for file in folder.iterdir():
            file.unlink()
    assert dataset.cifar10_folder(tmp_path) == folder
    assert cifar10.load(folder).fingerprint == FINGERPRINT
    assert os.listdir(str(folder.parent)) == [folder.name]


@pytest.mark.once
def test_incomplete_jpegs_are_made_again(tmp_path):
    pytest.importorskip("PIL", reason="the sample as JPEGs needs Pillow")
    folder = dataset.imagenet_folder(tmp_path)
    next((folder / "val" / "3").iterdir()).write_bytes(b"")
    next((folder / "train" / "5").iterdir()).unlink()
    assert dataset.imagenet_folder(tmp_path) == folder
    files = list(folder.glob("*/*/*.JPEG"))
    assert len(files) == 1794
    assert all(path.stat().st_size > 500 for path in files)


def test_where_the_cache_is(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("KIT_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    inside = "se-pnas-kit/sample-v1/cifar-10-batches-py"
    assert dataset.cifar10_folder() == tmp_path / "home" / ".cache" / inside
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    assert dataset.cifar10_folder() == tmp_path / "home" / ".cache" / inside
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert dataset.cifar10_folder() == tmp_path / "xdg" / inside
    monkeypatch.setenv("KIT_CACHE", str(tmp_path / "kit"))
    assert dataset.cifar10_folder() == tmp_path / "kit" / inside
    assert dataset.cifar10_folder(str(tmp_path / "given")) == tmp_path / "given" / inside


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"no folder")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = dataset.cifar10_folder(tmp_path / "file" / "cache")
    assert tmp_path in folder.parents
    assert cifar10.load(folder).fingerprint == FINGERPRINT
    other = dataset.cifar10_folder(tmp_path / "cache")
    assert other != folder, "what lies in the fallback does not stand in for a cache that can be written"


def test_nowhere_to_write(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"no folder")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file"))
    with pytest.raises(UsageError) as caught:
        dataset.cifar10_folder(tmp_path / "file" / "cache")
    assert str(caught.value).startswith("cannot write the embedded sample to ")
    assert str(caught.value).endswith("; set KIT_CACHE to a folder that can be written")


def test_a_failure_while_writing_leaves_nothing(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "fallback"))
    (tmp_path / "fallback").mkdir()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match="No space left on device"):
        dataset.cifar10_folder(tmp_path / "cache")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(UsageError, match="needs Pillow; pip install ") as caught:
        dataset.imagenet_folder(tmp_path)
    assert "\n" not in str(caught.value)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.once
def test_parallel_processes_get_the_same_whole_folder(tmp_path):
    program = (
        f"from shared import cifar10, sample; print(cifar10.load(sample.cifar10_folder({str(tmp_path)!r})).fingerprint)"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", program], cwd=str(REPOSITORY), stdout=subprocess.PIPE) for _ in range(4)
    ]
    outputs = [process.communicate()[0].decode().strip() for process in processes]
    assert outputs == [FINGERPRINT] * 4
    assert os.listdir(str(tmp_path / "se-pnas-kit" / "sample-v1")) == ["cifar-10-batches-py"]


def test_who_comes_second_takes_the_others_folder(tmp_path):
    """Both have written; the other one has moved its folder into place first."""

    def write_late(folder):
        dataset.cifar10_folder(tmp_path)
        (folder / "late").write_bytes(b"")

    root = tmp_path / "se-pnas-kit" / "sample-v1"
    name = "cifar-10-batches-py"
    assert dataset._written(root, name, write_late, dataset._is_complete_cifar10) == root / name
    assert not (root / name / "late").exists()


def test_importing_asks_for_numpy_alone():
    program = (
        "import sys; from shared import cifar10, sample; "
        "print([name for name in ('sklearn', 'PIL', 'tensorflow', 'torch') if name in sys.modules])"
    )
    output = subprocess.check_output([sys.executable, "-c", program], cwd=str(REPOSITORY))
    assert output.strip() == b"[]"
