"""The kept index: a second start gives what the first gave, every change is noticed, and a bad cache is none."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.imagenet import dataset
from shared.imagenet.dataset import indexed
from shared.imagenet.split import scan
from shared.system import atomic_files, cache_dir


def write_split(folder, classes=3, images=4):
    for label in range(classes):
        (folder / f"class{label}").mkdir(parents=True)
        for number in range(images):
            (folder / f"class{label}" / f"{number}ä\n.JPEG").write_bytes(b"x" * number)
    (folder / "notes.txt").write_bytes(b"x")
    return folder


@pytest.fixture
def folder(tmp_path):
    return write_split(tmp_path / "data" / "val")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache in which an index is kept however recently the folders have changed, as if the clock were a fine one."""
    monkeypatch.setattr(cache_dir, "TICK_NS", -(2**63))
    return tmp_path / "cache"


@pytest.fixture
def scans(monkeypatch):
    """The folders that were listed file by file."""
    done = []

    def counted(folder):
        done.append(folder)
        return scan(folder)

    monkeypatch.setattr(dataset, "scan", counted)
    return done


def content(split):
    return (
        split.folder,
        split.classes,
        split.labels.tolist(),
        split.names,
        split.offsets.tolist(),
        split.left_out,
        split.fingerprint,
        split.labels.dtype,
        split.offsets.dtype,
    )


def kept(cache):
    return list(cache.rglob("*.npz"))


def test_tiny_imagenets_folders_of_images_are_looked_at_too(folder, cache, scans):
    """The folder of the class keeps its time when an image is added a folder deeper."""
    for place in list(folder.glob("class*")):
        (place / "images").mkdir()
        for path in list(place.glob("*.JPEG")):
            path.rename(place / "images" / path.name)
    before = indexed(str(folder), cache)
    assert content(indexed(str(folder), cache)) == content(before)
    assert len(scans) == 1
    assert before.name(0).startswith("class0/images/")
    (folder / "class0" / "images" / "z.JPEG").write_bytes(b"x")
    assert len(indexed(str(folder), cache)) == len(before) + 1


def test_the_second_start_lists_no_files_and_gives_the_same(folder, cache, scans):
    first = indexed(str(folder), cache)
    second = indexed(str(folder), cache)
    assert scans == [str(folder)]
    assert content(first) == content(second) == content(scan(str(folder)))
    assert len(kept(cache)) == 1
    assert stat.S_IMODE(kept(cache)[0].stat().st_mode) & 0o400


def test_each_folder_has_its_own(folder, tmp_path, cache, scans):
    other = write_split(tmp_path / "other" / "val", classes=2)
    for _ in range(2):
        assert len(indexed(str(folder), cache)) == 12
        assert len(indexed(str(other), cache)) == 8
    assert len(scans) == 2


CHANGES = {
    "a file added": lambda folder: (folder / "class1" / "new.JPEG").write_bytes(b"x"),
    "a file removed": lambda folder: (folder / "class1" / "2ä\n.JPEG").unlink(),
    "a file renamed": lambda folder: (folder / "class1" / "2ä\n.JPEG").rename(folder / "class1" / "9.JPEG"),
    "a class added": lambda folder: (folder / "another").mkdir(),
    "a class removed": lambda folder: shutil.rmtree(str(folder / "class2")),
    "a class renamed": lambda folder: (folder / "class0").rename(folder / "class9"),
    "two classes exchanged": lambda folder: (
        (folder / "class0").rename(folder / "x"),
        (folder / "class1").rename(folder / "class0"),
        (folder / "x").rename(folder / "class1"),
    ),
    "a loose file added": lambda folder: (folder / "ILSVRC2012_val_00000001.JPEG").write_bytes(b"x"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("times_set_back", [False, True])
def test_every_change_is_noticed(folder, cache, scans, change, times_set_back):
    old = 1_500_000_000
    for path in [folder] + [path for path in folder.iterdir() if path.is_dir()]:
        os.utime(str(path), (old, old))
    before = indexed(str(folder), cache)
    CHANGES[change](folder)
    if times_set_back:
        for path in [folder] + [path for path in folder.iterdir() if path.is_dir()]:
            os.utime(str(path), (old, old))
    after = indexed(str(folder), cache)
    assert len(scans) == 2
    assert content(after) == content(scan(str(folder)))
    if not change.startswith("two"):
        assert content(after) != content(before)


def test_folders_that_have_just_changed_are_not_kept(folder, tmp_path, monkeypatch):
    """A change within the same tick of the file system's clock would not be seen."""
    cache = tmp_path / "cache"
    indexed(str(folder), cache)
    assert kept(cache) == []
    newest = max(path.stat().st_ctime_ns for path in [folder, *folder.iterdir()])
    monkeypatch.setattr(cache_dir.time, "time_ns", lambda: newest + cache_dir.TICK_NS + 1)
    indexed(str(folder), cache)
    assert len(kept(cache)) == 1


def test_a_file_rewritten_in_place_is_not_seen(folder, cache):
    """Documented: it would need a look at every file."""
    before = indexed(str(folder), cache)
    (folder / "class0" / "1ä\n.JPEG").write_bytes(b"longer than it was")
    assert indexed(str(folder), cache).fingerprint == before.fingerprint
    assert scan(str(folder)).fingerprint != before.fingerprint


@pytest.mark.once
@given(seed=st.integers(0, 2**32 - 1), cut=st.booleans(), changes=st.integers(1, 6))
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_damaged_index_is_made_anew(tmp_path_factory, seed, cut, changes):
    base = tmp_path_factory.getbasetemp() / "damaged"
    if not base.exists():
        write_split(base / "val")
    expected = scan(str(base / "val"))
    _, stamp, _ = dataset._state(str(base / "val"))
    random, damaged = np.random.RandomState(seed), bytearray(dataset._pack(expected, stamp))
    if cut:
        del damaged[random.randint(len(damaged)) :]
    for _ in range(changes if damaged else 0):
        damaged[random.randint(len(damaged))] = random.randint(256)
    with contextlib.suppress(Exception):
        read = dataset._unpack(bytes(damaged), str(base / "val"), expected.classes, stamp)
        damaged = None
    assert damaged is not None or content(read) == content(expected)


def test_an_undamaged_index_is_read(folder):
    """The test above can fail: this is what it damages."""
    expected = scan(str(folder))
    classes, stamp, _ = dataset._state(str(folder))
    read = dataset._unpack(dataset._pack(expected, stamp), str(folder), classes, stamp)
    assert content(read) == content(expected)


def test_a_cache_that_cannot_be_written_is_no_error(folder, cache, scans, tmp_path, monkeypatch):
    cache.write_bytes(b"a file in the way")
    monkeypatch.setattr(cache_dir.tempfile, "gettempdir", lambda: str(tmp_path / "temporary"))
    assert len(indexed(str(folder), cache)) == 12
    assert len(kept(tmp_path / "temporary")) == 1, "the second place serves"
    assert len(indexed(str(folder), cache)) == 12
    assert len(scans) == 1
    shutil.rmtree(str(tmp_path / "temporary"))
    (tmp_path / "temporary").write_bytes(b"in the way, too")
    assert len(indexed(str(folder), cache)) == 12


def test_a_full_disk_leaves_nothing_half_written(folder, cache, monkeypatch, tmp_path):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic_files.os, "fsync", full)
    monkeypatch.setattr(cache_dir.tempfile, "gettempdir", lambda: str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    assert len(indexed(str(folder), cache)) == 12
    left = list(cache.rglob("*")) + list((tmp_path / "temporary").rglob("*"))
    assert [path for path in left if path.is_file()] == []


def test_an_empty_split_is_kept_too(tmp_path, cache, scans):
    (tmp_path / "val").mkdir()
    assert content(indexed(str(tmp_path / "val"), cache)) == content(indexed(str(tmp_path / "val"), cache))
    assert len(scans) == 1
