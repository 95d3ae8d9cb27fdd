"""Files are there whole or not at all."""

from __future__ import annotations

import os
import stat

import pytest

from shared.errors import UsageError
from shared.system import atomic_files


@pytest.mark.parametrize(("content", "stored"), [("grün\n", b"gr\xc3\xbcn\n"), (b"\x00\xff", b"\x00\xff"), ("", b"")])
def test_text_and_bytes_are_written(tmp_path, content, stored):
    atomic_files.write_atomic(tmp_path / "file", content)
    assert (tmp_path / "file").read_bytes() == stored


def test_a_file_is_replaced_and_nothing_stays_beside_it(tmp_path):
    path = tmp_path / "file"
    path.write_text("a much longer text than the new one")
    atomic_files.write_atomic(str(path), "new")
    assert path.read_text() == "new"
    assert os.listdir(str(tmp_path)) == ["file"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, step):
    path = tmp_path / "file"
    path.write_text("old")

    def fail(*arguments):
        raise OSError("disk full")

    monkeypatch.setattr(atomic_files.os, step, fail)
    with pytest.raises(OSError, match="disk full"):
        atomic_files.write_atomic(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(str(tmp_path)) == ["file"]


@pytest.fixture
def calls(monkeypatch):
    """The names of the system's functions that make a file last, in the order of their calls."""
    called = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(
            atomic_files.os, name, lambda *a, _real=real, _name=name: (called.append(_name), _real(*a))[1]
        )
    return called


def test_the_bytes_are_on_the_disk_before_the_name_is_and_the_name_in_the_end(tmp_path, calls):
    atomic_files.write_atomic(tmp_path / "file", "text")
    assert calls == ["fsync", "replace", "fsync"]


def test_a_reader_never_sees_a_part(tmp_path):
    path = tmp_path / "file"
    atomic_files.write_atomic(path, "old")
    with path.open() as reader:  # holds the old file, which the new one does not touch
        atomic_files.write_atomic(path, "new and longer")
        assert reader.read() == "old"
    assert path.read_text() == "new and longer"


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_file_has_the_rights_that_the_users_umask_gives(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        atomic_files.write_atomic(tmp_path / "file", "text")
    finally:
        assert os.umask(before) == umask  # and the umask is as it was
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(OSError, match="missing"):
        atomic_files.write_atomic(tmp_path / "missing" / "file", "text")


def test_make_folder_makes_parents_and_accepts_what_is_there(tmp_path):
    folder = tmp_path / "a" / "b"
    assert atomic_files.make_folder(str(folder)) == folder
    assert atomic_files.make_folder(folder) == folder
    assert list(folder.iterdir()) == []


def _refusal(path):
    with pytest.raises(UsageError) as caught:
        atomic_files.make_folder(path)
    text = str(caught.value)
    assert str(path) in text
    assert "; choose another folder with --output-dir" in text
    assert "\n" not in text


def test_make_folder_where_a_file_is_in_the_way(tmp_path):
    (tmp_path / "file").write_text("")
    _refusal(tmp_path / "file")
    _refusal(tmp_path / "file" / "below")


def test_make_folder_that_cannot_be_written(tmp_path, monkeypatch):
    def refuse(*arguments, **named):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(atomic_files.tempfile, "TemporaryFile", refuse)
    _refusal(tmp_path / "folder")


def test_sync_folder_syncs_a_descriptor_and_closes_it(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(atomic_files.os, "fsync", lambda descriptor: synced.append((descriptor, os.fstat(descriptor))))
    atomic_files.sync_folder(tmp_path)
    ((descriptor, status),) = synced
    assert (status.st_dev, status.st_ino) == (tmp_path.stat().st_dev, tmp_path.stat().st_ino)
    with pytest.raises(OSError, match="descriptor"):
        os.fstat(descriptor)


def test_sync_files_syncs_every_file_and_then_their_names(tmp_path, monkeypatch):
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    synced = []
    monkeypatch.setattr(atomic_files.os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    atomic_files.sync_files(str(tmp_path))
    assert sorted(synced[:2]) == sorted((tmp_path / name).stat().st_ino for name in ("a", "b"))
    assert synced[2:] == [tmp_path.stat().st_ino]


def test_the_names_of_new_folders_are_synced(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(atomic_files.os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    atomic_files.make_folder(tmp_path / "a" / "b")
    assert sorted(synced) == sorted(path.stat().st_ino for path in (tmp_path, tmp_path / "a"))
    atomic_files.make_folder(tmp_path / "a" / "b")
    assert len(synced) == 2


@pytest.mark.parametrize(("step", "error"), [("open", PermissionError(13, "")), ("fsync", OSError(22, ""))])
def test_a_folder_that_cannot_be_synced_is_no_failure(tmp_path, monkeypatch, step, error):
    def fail(*arguments):
        raise error

    monkeypatch.setattr(atomic_files.os, step, fail)
    atomic_files.sync_folder(tmp_path)


# -- complete --------------------------------------------------------------------------------------------------


def test_a_file_and_a_folder_get_their_names_last(tmp_path):
    with atomic_files.complete(tmp_path / "new" / "file") as path:
        path.write_text("text")
        assert not (tmp_path / "new" / "file").exists()
    with atomic_files.complete(str(tmp_path / "new" / "folder")) as path:
        (path / "below").mkdir(parents=True)
        (path / "below" / "file").write_text("text")
    assert sorted(os.listdir(str(tmp_path / "new"))) == ["file", "folder"]
    assert (tmp_path / "new" / "folder" / "below" / "file").read_text() == "text"
    with atomic_files.complete(tmp_path / "new" / "file") as path:
        path.write_text("another")
    assert (tmp_path / "new" / "file").read_text() == "another"


def _written_in_part(target, error):
    with atomic_files.complete(target) as path:
        path.mkdir()
        (path / "part").write_text("new")
        raise error


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_an_error_leaves_what_was_there(tmp_path, error):
    (tmp_path / "file").write_text("old")
    for name in ("file", "folder"):
        with pytest.raises(type(error)):
            _written_in_part(tmp_path / name, error)
    assert os.listdir(str(tmp_path)) == ["file"]
    assert (tmp_path / "file").read_text() == "old"


def test_a_folder_with_files_is_not_replaced(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine").write_text("")
    with pytest.raises(OSError), atomic_files.complete(tmp_path / "folder") as path:  # noqa: PT011
        path.mkdir()
    assert os.listdir(str(tmp_path)) == ["folder"]
    assert os.listdir(str(tmp_path / "folder")) == ["mine"]


def test_all_files_are_on_the_disk_before_the_name_is(tmp_path, calls):
    with atomic_files.complete(tmp_path / "folder") as path:
        (path / "below").mkdir(parents=True)
        for file in (path / "a", path / "below" / "b"):
            file.write_text("text")
    assert calls == [*["fsync"] * 5, "replace", "fsync"]  # two files, three folders; then the folder of the new name


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o755), (0o077, 0o700)])
def test_a_new_folder_has_the_rights_that_the_users_umask_gives(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        with atomic_files.complete(tmp_path / "folder") as path:
            path.mkdir()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == mode
