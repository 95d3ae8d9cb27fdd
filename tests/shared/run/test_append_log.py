"""A log that a disk interrupts has whole records at any time, and all of them in the end."""

from __future__ import annotations

import errno
import os

import pytest

from shared.run.append_log import AppendedFile


class Disk:
    """The file of an `AppendedFile`, with room for so many bytes."""

    def __init__(self, file, room):
        self._file, self.room = file, room

    def write(self, data):
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = self._file.write(data[: self.room])
        self.room -= written
        return written

    def __getattr__(self, name):
        return getattr(self._file, name)


@pytest.fixture
def log(tmp_path):
    notes = []
    file = AppendedFile(tmp_path / "log", notes)
    file._file = Disk(file._file, 10**6)
    return file, file._file, tmp_path / "log", notes


@pytest.mark.parametrize("room", range(12))
def test_what_the_disk_does_not_take_is_added_later(log, room):
    file, disk, path, notes = log
    disk.room = room
    for record in (b"first\n", b"second\n"):
        file.write(record)
        assert path.read_bytes() in (b"", b"first\n")
    disk.room = 100
    file.write(b"third\n")
    assert path.read_bytes() == b"first\nsecond\nthird\n"
    first, second = notes
    assert first.startswith(f"note: {path} cannot be written (No space left on device); the run goes on")
    assert second == f"note: {path} can be written again; nothing is missing in it"


def test_what_is_missing_in_the_end_is_said(log):
    file, disk, path, notes = log
    file.write(b"first\n")
    disk.room = 0
    file.write(b"second\n")
    file.write(b"third\n")
    file.close()
    assert path.read_bytes() == b"first\n"
    assert [note for note in notes if "lacks" in note] == [
        f"note: {path} lacks its last 2 entries (No space left on device)"
    ]


def test_a_pipe_is_no_file_to_cut(tmp_path):
    reading, writing = os.pipe()
    file = AppendedFile(tmp_path / "log", [])
    os.dup2(writing, file._file.fileno())
    file.write(b"first\n")
    file.sync()
    file.close()
    assert os.read(reading, 100) == b"first\n"
    os.close(reading)
    os.close(writing)
