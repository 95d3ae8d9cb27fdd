"""The CIFAR-10 layout: what is there is loaded exactly, what is wrong is one line."""

from __future__ import annotations

import builtins
import os
import pickle
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared import cifar10
from shared.cifar10 import dataset as batches
from shared.cifar10 import restricted_pickle
from shared.errors import DataError, UsageError
from tests.support import python2_pickle

CASES = 3
NAMES = ["cat", "dog", "ship"]
FILES = batches.TRAIN_FILES + (batches.TEST_FILE,)
ALL_FILES = FILES + (batches.META_FILE,)


def meta(**changes):
    return dict({"num_cases_per_batch": CASES, "label_names": NAMES, "num_vis": 3072}, **changes)


def batch(number, **changes):
    pixels = np.random.RandomState(number).randint(0, 256, (CASES, 3072)).astype(np.uint8)
    labels = [(number + case) % len(NAMES) for case in range(CASES)]
    return dict({"batch_label": f"batch {number}", "labels": labels, "data": pixels}, **changes)


def write_set(folder, dumps=python2_pickle.dumps):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "batches.meta").write_bytes(dumps(meta()))
    for number, name in enumerate(FILES):
        (folder / name).write_bytes(dumps(batch(number)))
    return folder


@pytest.fixture
def folder(tmp_path):
    return write_set(tmp_path / "data" / cifar10.FOLDER)


# -- what is loaded ------------------------------------------------------------------------------


def test_loads_pixels_and_labels(folder):
    data = cifar10.load(folder)
    assert (data.name, data.path, data.label_names) == ("cifar-10-layout", str(folder), tuple(NAMES))
    assert data.train_images.shape == (15, 32, 32, 3)
    assert data.test_images.shape == (3, 32, 32, 3)
    assert data.train_images.dtype == data.test_images.dtype == np.uint8
    assert data.train_labels.dtype == data.test_labels.dtype == np.int32
    images = np.concatenate([data.train_images, data.test_images])
    labels = np.concatenate([data.train_labels, data.test_labels])
    for number in range(6):
        expected = batch(number)
        for case in range(CASES):
            index = number * CASES + case
            assert labels[index] == expected["labels"][case]
            for row, column, channel in [(0, 0, 0), (0, 31, 2), (31, 0, 1), (17, 5, 2)]:
                stored = expected["data"][case, channel * 1024 + row * 32 + column]
                assert images[index, row, column, channel] == stored


def test_the_images_of_one_file(folder, tmp_path):
    images = batches.read_images(folder / "test_batch")
    assert np.array_equal(images, cifar10.load(folder).test_images)
    alone = tmp_path / "alone"  # without batches.meta, labels and the number that it gives
    alone.write_bytes(python2_pickle.dumps({"data": batch(0)["data"][:2]}))
    assert np.array_equal(batches.read_images(alone), cifar10.load(folder).train_images[:2])
    for data in (7, np.zeros((2, 3071), np.uint8), np.zeros((2, 3072, 1), np.uint8)):
        alone.write_bytes(pickle.dumps({"data": data}, protocol=2))
        with pytest.raises(DataError, match="alone has .*data"):
            batches.read_images(alone)


def test_the_parent_will_do(folder):
    assert batches.find(folder.parent) == batches.find(str(folder)) == folder
    assert cifar10.load(folder.parent).fingerprint == cifar10.load(folder).fingerprint


def test_home_is_understood(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert batches.find("~") == folder


def test_links_are_followed(folder, tmp_path):
    linked = tmp_path / "linked"
    linked.mkdir()
    for name in ALL_FILES:
        (linked / name).symlink_to(folder / name)
    assert cifar10.load(linked).fingerprint == cifar10.load(folder).fingerprint


def test_other_files_are_ignored(folder):
    before = cifar10.load(folder).fingerprint
    for name in ["readme.html", ".data_batch_6", "notes.txt", ".DS_Store", "batches.meta.txt"]:
        (folder / name).write_bytes(b"anything")
    (folder / "backup").mkdir()
    assert cifar10.load(folder).fingerprint == before


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("as_bytes", [False, True])
def test_the_fingerprint_does_not_depend_on_the_pickling(folder, tmp_path, protocol, as_bytes):
    def dumps(values):
        keyed = {key.encode() if as_bytes else key: value for key, value in values.items()}
        return pickle.dumps(keyed, protocol)

    copy = write_set(tmp_path / "copy", dumps)
    assert (copy / "test_batch").read_bytes() != (folder / "test_batch").read_bytes()
    ours, theirs = cifar10.load(folder), cifar10.load(copy)
    assert ours.fingerprint == theirs.fingerprint
    np.testing.assert_array_equal(ours.train_images, theirs.train_images)


def changed_pixel(values):
    values["data"][2, 3071] ^= 1


def changed_label(values):
    values["labels"][0] = (values["labels"][0] + 1) % len(NAMES)


@pytest.mark.parametrize("name", [FILES[0], FILES[4], FILES[5]])
@pytest.mark.parametrize("change", [changed_pixel, changed_label])
def test_the_fingerprint_depends_on_every_pixel_and_label(folder, name, change):
    before = cifar10.load(folder).fingerprint
    values = batch(FILES.index(name))
    change(values)
    (folder / name).write_bytes(python2_pickle.dumps(values))
    assert cifar10.load(folder).fingerprint != before


def test_the_fingerprint_is_what_it_was(folder):
    """Records hold fingerprints: the way they are made must not change."""
    assert cifar10.load(folder).fingerprint == FINGERPRINT


FINGERPRINT = "058f08446a9623c8baca53fe977315b772b41e4668edf2bfebad2a45c779694e"


@pytest.mark.parametrize(
    ("given_name", "name"),
    [("my-set", "my-set"), ("cifar-10", "cifar-10-layout"), ("Two Words", "cifar-10-layout"), ("", "cifar-10-layout")],
)
def test_a_set_may_name_itself_but_not_cifar_10(folder, given_name, name):
    (folder / "batches.meta").write_bytes(python2_pickle.dumps(meta(dataset_name=given_name)))
    assert cifar10.load(folder).name == name


# -- what is wrong -------------------------------------------------------------------------------


def fault(path):
    """The one line that all three ways of looking at the folder agree upon."""
    with pytest.raises(DataError) as caught:
        cifar10.load(path)
    line = str(caught.value)
    assert line.isprintable()
    assert line.count("; ") == 1, "what is wrong; what to do"
    assert len(line) < 600
    with pytest.raises(DataError, match=".") as described:
        cifar10.describe(path)
    assert str(described.value) == line
    return line


@pytest.mark.parametrize("name", ALL_FILES)
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    assert f"lacks {name}; " in fault(folder)


def test_all_missing_files_are_named_in_one_line(folder):
    (folder / "batches.meta").unlink()
    (folder / "data_batch_4").unlink()
    assert "lacks batches.meta, data_batch_4; " in fault(folder)


def test_the_names_of_the_original_readme(folder):
    (folder / "test_batch").rename(folder / "test_batch_1")
    shutil.copy(str(folder / "test_batch_1"), str(folder / "test_batch_2"))
    line = fault(folder)
    assert "lacks test_batch and has test_batch_1, test_batch_2, no part of CIFAR-10; " in line


@pytest.mark.parametrize("name", ["data_batch_6", "data_batch_1 (copy)", "test_batch_2", "test_batch~", "data_batch"])
def test_an_extra_file_is_named(folder, name):
    shutil.copy(str(folder / "test_batch"), str(folder / name))
    assert f"has {name}, no part of CIFAR-10; remove" in fault(folder)


def test_many_extra_files_still_make_one_line(folder):
    for number in range(100):
        (folder / f"data_batch_\n{number:03d}").write_bytes(b"")
    assert "data_batch_?000" in fault(folder)


def test_a_packed_archive_is_to_be_extracted(tmp_path):
    archive = tmp_path / "cifar-10-python.tar.gz"
    archive.write_bytes(b"x")
    for path in (tmp_path, archive):
        assert f"{archive} is still packed; extract it (tar -xzf {archive}" in fault(path)


def test_cifar_100_is_called_by_its_name(tmp_path):
    for name in ("train", "test", "meta"):
        (tmp_path / name).write_bytes(b"x")
    assert "holds CIFAR-100, and this network is trained on CIFAR-10; give the folder" in fault(tmp_path)


def test_what_is_not_there(tmp_path):
    assert "does not exist" in fault(tmp_path / "nowhere")
    (tmp_path / "file").write_bytes(b"x")
    assert "is not a folder" in fault(tmp_path / "file")
    assert "holds no CIFAR-10" in fault(tmp_path)
    (tmp_path / cifar10.FOLDER).mkdir()
    assert "holds no CIFAR-10" in fault(tmp_path)


@pytest.mark.parametrize("name", ALL_FILES)
@pytest.mark.parametrize("kept", [0, 1, 2, 10, 100, 2000, -1])
def test_a_truncated_file_is_named(folder, name, kept):
    content = (folder / name).read_bytes()
    kept = kept % len(content)
    (folder / name).write_bytes(content[:kept])
    line = fault(folder)
    assert line.startswith(str(folder / name))
    assert ("is not a CIFAR-10 file" if name == "batches.meta" else "is truncated" if kept == 0 else "") in line


@pytest.mark.parametrize("name", ALL_FILES)
def test_a_folder_a_pipe_a_dead_link_and_a_huge_file_in_place_of_a_file(folder, name):
    path = folder / name
    path.unlink()
    path.mkdir()
    assert f"{path} is not a file; " in fault(folder)
    path.rmdir()
    os.mkfifo(str(path))  # must not wait for somebody to write into it
    assert f"{path} is not a file; " in fault(folder)
    path.unlink()
    path.symlink_to(folder / "nowhere")
    assert f"cannot read {path} (No such file" in fault(folder)
    path.unlink()
    with open(str(path), "wb") as file:
        file.truncate(2**40)
    assert f"{path} is too large" in fault(folder)


@pytest.mark.parametrize("name", ALL_FILES)
def test_an_unreadable_file_is_named(folder, name, monkeypatch):
    real_open = builtins.open

    def guarded(path, *arguments, **options):
        if str(path).endswith(name):
            raise PermissionError(13, "Permission denied")
        return real_open(path, *arguments, **options)

    monkeypatch.setattr(builtins, "open", guarded)
    assert f"cannot read {folder / name} (Permission denied); " in fault(folder)


def test_an_unreadable_folder_is_named(folder, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "listdir", refuse)
    assert f"cannot read {folder} (Permission denied); " in fault(folder)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (meta(num_cases_per_batch=0), "num_cases_per_batch"),
        (meta(num_cases_per_batch=2**31 - 1), "num_cases_per_batch"),
        (meta(num_cases_per_batch="3"), "num_cases_per_batch"),
        (meta(num_cases_per_batch=4), "is truncated"),
        (meta(num_cases_per_batch=2), "has data of shape (3, 3072), not (2, 3072)"),
        (meta(num_vis=784), "num_vis"),
        (meta(num_vis=np.full((1, 2), 12, np.uint8)), "num_vis"),
        (meta(label_names="cat"), "label_names"),
        (meta(label_names=[]), "label_names"),
        (meta(label_names=[1, 2, 3]), "label_names"),
        (meta(label_names=["cat", "dog", "cat"]), "label_names"),
        (meta(label_names=["cat", "dog", "two\nlines"]), "label_names"),
        (meta(label_names=["cat", "dog"]), "label 2, not 0 to 1"),
        ({"num_vis": 3072, "label_names": NAMES}, "num_cases_per_batch"),
        ({}, "num_cases_per_batch"),
    ],
)
def test_a_wrong_meta_file(folder, values, said):
    (folder / "batches.meta").write_bytes(python2_pickle.dumps(values))
    assert said in fault(folder)


BIG = batch(0)["data"]


@pytest.mark.parametrize("name", [FILES[0], FILES[3], FILES[5]])
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"labels": [0, 3, 0]}, "gives image 1 the label 3, not 0 to 2"),
        ({"labels": [0, 1]}, "no list of 3 labels"),
        ({"labels": [0, 1, 2, 0]}, "no list of 3 labels"),
        ({"labels": ["0", "1", "2"]}, "no list of 3 labels"),
        ({"labels": 7}, "no list of 3 labels"),
        ({"labels": BIG}, "no list of 3 labels"),
        ({"data": BIG[:2], "padding": BIG}, "shape (2, 3072), not (3, 3072)"),
        ({"data": np.ones((4, 3072), np.uint8)}, "shape (4, 3072), not (3, 3072)"),
        ({"data": BIG.reshape(9, 1024)}, "shape (9, 1024), not (3, 3072)"),
        ({"data": "x" * 10000}, "has no data"),
    ],
)
def test_a_wrong_batch(folder, name, changes, said):
    number = FILES.index(name)
    (folder / name).write_bytes(python2_pickle.dumps(batch(number, **changes)))
    line = fault(folder)
    assert said in line
    assert line.startswith(str(folder / name))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"data": BIG, "labels": [0, 1, -1]}, "label -1"),
        ({"data": BIG, "labels": [0, 1, True]}, "no list of 3 labels"),
        ({"data": BIG, "labels": (0, 1, 2)}, "no list of 3 labels"),
        ({"data": BIG, "labels": [0, 1, 1.0]}, "instruction"),
        ({"data": BIG.astype(np.float32), "labels": [0, 1, 2]}, "'f4'"),
        ({"data": BIG.astype(np.int64), "labels": [0, 1, 2]}, "has data of int64, not of uint8"),
        ({"data": BIG, "labels": np.array([[0, 1, 2]])}, "no list of 3 labels"),
        ({"data": BIG, "labels": np.array([0, 1, 3])}, "gives image 2 the label 3, not 0 to 2"),
        ({"data": np.asfortranarray(BIG), "labels": [0, 1, 2]}, "column by column"),
        ({"fine_labels": [0, 1, 2], "data": BIG}, "no list of 3 labels"),
        ([BIG, [0, 1, 2]], "dictionary"),
    ],
)
def test_a_wrong_batch_made_by_python_3(folder, value, said):
    for protocol in (2, 4):
        (folder / "data_batch_2").write_bytes(pickle.dumps(value, protocol))
        assert said in fault(folder)


@pytest.mark.parametrize("labels", [list, lambda array: array, lambda array: array.astype(np.uint8)])
def test_labels_and_names_as_numpy_has_them_are_the_same_set(folder, labels):
    """`list(array)`, as a set of one's own is easily written, and arrays."""
    plain = cifar10.load(folder)
    for number, name in enumerate(FILES):
        values = batch(number, labels=labels(np.array(batch(number)["labels"])))
        (folder / name).write_bytes(pickle.dumps(values, 2))
    values = meta(num_cases_per_batch=np.int64(CASES), label_names=list(np.array(NAMES)))
    (folder / "batches.meta").write_bytes(pickle.dumps(values, 2))
    numpys = cifar10.load(folder)
    assert (numpys.fingerprint, numpys.label_names) == (plain.fingerprint, plain.label_names)


def test_the_remedy_is_also_that_of_a_set_of_ones_own(folder):
    (folder / "data_batch_2").write_bytes(pickle.dumps(batch(1, labels=[0.5]), 2))
    line = fault(folder)
    assert "extract cifar-10-python.tar.gz afresh, or write it as there (data: uint8 [images, 3072]" in line


class Attack:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (os.mkdir, (self.marker,))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", ALL_FILES)
def test_a_hostile_file_executes_nothing(folder, tmp_path, name, protocol):
    marker = tmp_path / "executed"
    attack = Attack(str(marker))
    values = dict(meta(), attack=attack) if name == "batches.meta" else batch(1, batch_label=attack)
    (folder / name).write_bytes(pickle.dumps(values, protocol))
    assert str(folder / name) in fault(folder)
    assert not marker.exists()


@pytest.mark.once
@given(seed=st.integers(0, 2**32 - 1), name=st.sampled_from(ALL_FILES), changes=st.integers(1, 12))
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
def test_mutated_files_load_whole_or_are_one_fault(tmp_path_factory, seed, name, changes):
    folder = tmp_path_factory.getbasetemp() / "mutated"
    if not folder.exists():
        write_set(folder)
    whole = (folder / name).read_bytes()
    random = np.random.RandomState(seed)
    content = bytearray(whole)
    edges = np.flatnonzero(np.arange(len(content)) % max(len(content) - 200, 1) < 200)  # around the pixels
    for _ in range(changes):
        at = int(random.choice(edges)) if random.rand() < 0.9 else random.randint(len(content))
        action = random.randint(4)
        if action == 0:
            del content[at : at + random.randint(1, 4)]
        elif action == 1:
            content[at:at] = bytes(random.randint(0, 256, random.randint(1, 4)).astype(np.uint8))
        else:
            content[at % len(content)] = random.randint(256)
    try:
        (folder / name).write_bytes(bytes(content))
        data, line = None, ""
        try:
            data = cifar10.load(folder)
        except DataError as error:
            line = str(error)
    finally:
        (folder / name).write_bytes(whole)
    if data is None:
        assert line.isprintable()
        assert "; " in line
    else:
        assert data.train_images.shape == (15, 32, 32, 3)
        assert data.test_labels.shape == (3,)
        assert set(data.train_labels) | set(data.test_labels) <= set(range(len(data.label_names)))
        assert data.name == "cifar-10-layout"


# -- statistics and descriptions -----------------------------------------------------------------


@given(seed=st.integers(0, 2**32 - 1), images=st.integers(1, 40), side=st.integers(1, 9))
@settings(max_examples=50, deadline=None)
def test_channel_statistics_are_those_of_numpy(seed, images, side):
    pixels = np.random.RandomState(seed).randint(0, 256, (images, side, side, 3)).astype(np.uint8)
    mean, deviation = cifar10.channel_statistics(pixels)
    assert mean.dtype == deviation.dtype == np.float64
    np.testing.assert_allclose(mean, pixels.mean(axis=(0, 1, 2), dtype=np.float64), rtol=1e-12)
    np.testing.assert_allclose(deviation, pixels.std(axis=(0, 1, 2), dtype=np.float64), rtol=1e-9, atol=1e-9)
    again = cifar10.channel_statistics(pixels[::-1])
    np.testing.assert_array_equal(np.stack(again), np.stack([mean, deviation]))


def test_channel_statistics_by_hand():
    images = np.zeros((2, 1, 1, 3), np.uint8)
    images[1, 0, 0] = [10, 0, 255]
    mean, deviation = cifar10.channel_statistics(images)
    assert mean.tolist() == [5.0, 0.0, 127.5]
    assert deviation.tolist() == [5.0, 0.0, 127.5]


def test_channel_statistics_need_little_memory():
    images = np.full((20_000, 32, 32, 3), 7, np.uint8)
    tracemalloc.start()
    try:
        mean, deviation = cifar10.channel_statistics(images)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert mean.tolist() == [7.0] * 3
    assert deviation.tolist() == [0.0] * 3
    assert peak < images.nbytes / 4


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((2, 4, 4, 3), np.float32),
        np.zeros((4, 4, 3), np.uint8),
        np.zeros((2, 4, 4, 1), np.uint8),
        np.zeros((0, 4, 4, 3), np.uint8),
    ],
)
def test_channel_statistics_of_something_else(images):
    with pytest.raises(ValueError, match="uint8"):
        cifar10.channel_statistics(images)


def test_the_description_counts(folder):
    lines = cifar10.describe(folder)
    assert len(lines) == 1 + 7 + 2 + 1
    assert lines[0] == f"folder {folder}"
    assert "3 images per file, 3 classes: cat, dog, ship" in lines[1]
    assert all("md5 not the official one" in line for line in lines[1:8])
    assert [line.split(":")[0] for line in lines[2:10]] == list(FILES) + ["train set", "test set"]
    assert "15 images, per class 5 5 5, mean" in lines[8]
    assert "3 images, per class 1 1 1, mean" in lines[9]
    data = cifar10.load(folder)
    mean, deviation = cifar10.channel_statistics(data.train_images)
    numbers = " ".join(f"{x:.3f}" for x in mean), " ".join(f"{x:.3f}" for x in deviation)
    assert lines[8].endswith("mean {}, std {}".format(*numbers))
    assert lines[-1] == "cifar-10-layout: complete, but not the official files"


def test_faults_are_the_users():
    assert issubclass(DataError, UsageError)


# -- the official files --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def official(cifar10_official):
    return cifar10.load(cifar10_official)


def test_official_data(official):
    assert official.name == "cifar-10"
    assert official.train_images.shape == (50_000, 32, 32, 3)
    assert official.test_images.shape == (10_000, 32, 32, 3)
    assert np.bincount(official.train_labels).tolist() == [5000] * 10
    assert np.bincount(official.test_labels).tolist() == [1000] * 10
    assert official.label_names[0] == "airplane"
    assert official.label_names[9] == "truck"
    assert official.train_labels[:10].tolist() == [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]
    assert official.test_labels[:10].tolist() == [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]
    assert official.fingerprint == "503e8645d11c31e14a78dd530ee5dcc7dd25f451886e4d16da178062a3f820b1"


def test_official_statistics(official):
    mean, deviation = cifar10.channel_statistics(official.train_images)
    np.testing.assert_allclose(mean, [125.307, 122.950, 113.865], atol=5e-4)
    np.testing.assert_allclose(deviation, [62.993, 62.089, 66.705], atol=5e-4)


def test_official_description(cifar10_official):
    lines = cifar10.describe(cifar10_official)
    assert sum("md5 official" in line for line in lines) == 7
    assert lines[-1] == "cifar-10: every md5 is the official one"
    assert "mean 125.307 122.950 113.865, std 62.993 62.089 66.705" in lines[8]


@pytest.mark.parametrize("name", ["batches.meta", "data_batch_3", "test_batch"])
def test_the_writer_gives_the_official_files_byte_for_byte(cifar10_official, name):
    content = (Path(str(cifar10_official)) / name).read_bytes()
    values = {key: as_text(value) for key, value in restricted_pickle.loads(content).items()}
    assert python2_pickle.dumps(values) == content


def as_text(value):
    if isinstance(value, list):
        return [as_text(item) for item in value]
    return value.decode("ascii") if isinstance(value, bytes) else value


def test_one_other_pixel_and_it_is_not_the_official_set(cifar10_official, official, tmp_path):
    for name in ALL_FILES:
        (tmp_path / name).symlink_to(cifar10_official / name)
    content = bytearray((cifar10_official / "data_batch_5").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "data_batch_5").unlink()
    (tmp_path / "data_batch_5").write_bytes(bytes(content))
    data = cifar10.load(tmp_path)
    assert data.name == "cifar-10-layout"
    assert data.fingerprint != official.fingerprint
    (tmp_path / "data_batch_5").unlink()  # 31 MB
