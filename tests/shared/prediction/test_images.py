"""Which images a command line means: files, folders, lists; what is no image is never left out without a word."""

from __future__ import annotations

import io
import os
import pickle

import pytest

from shared.errors import DataError
from shared.prediction.images import ImageList, find_images


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("cat", "b.png", "in/a.JPEG", "in/z/y/x.jpg", "in/z/text.txt", "in/.hidden.jpg", "in/._z.jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    (tmp_path / "empty").mkdir()
    (tmp_path / "in" / "z" / "circle").symlink_to(tmp_path / "in")
    return tmp_path


def found(*words, listed=b"", missing=False):
    return find_images(words, io.BytesIO(listed), missing)


def test_files_folders_and_lists_in_their_order(folder):
    paths, notes = found("cat", "in", "-", "in/a.JPEG", listed=b"b.png\n\n./cat\r\n")
    assert paths == ["cat", "in/a.JPEG", "in/z/y/x.jpg", "b.png", "./cat", "in/a.JPEG"]
    assert notes == ["1 file in in not named as images: left out (text.txt)"]


def test_a_list_of_zero_bytes_has_names_with_line_ends(folder):
    strange = "two\nlines \udce9"
    (folder / strange).write_bytes(b"")
    assert found("-", listed=b"cat\0" + os.fsencode(strange) + b"\0")[0] == ["cat", strange]


@pytest.mark.parametrize(
    ("words", "listed", "message"),
    [
        (["gone.jpg"], b"", "there is no file gone.jpg; check the path"),
        (["-"], b"cat\ngone.jpg", "there is no file gone.jpg; check the path"),
        (["-"], b"\n", "the list on standard input is empty"),
        (["cat", "-"], b"", "the list on standard input is empty"),
        (["-"], b"in\nin/a.JPEG\n", "in in the list is a folder; list files alone"),
        (["empty"], b"", "empty holds no files named as images"),
        ([os.devnull], b"", "is neither a file nor a folder"),
    ],
)
def test_what_is_no_image_is_named(folder, words, listed, message):
    with pytest.raises(DataError, match=message):
        found(*words, listed=listed)


def test_files_of_other_names_are_read_where_they_are_named_so(folder):
    paths, notes = find_images(["in"], io.BytesIO(), False, lambda name: name.endswith(".txt"))
    assert paths == ["in/z/text.txt"]
    assert notes == ["2 files in in not named as images: left out (a.JPEG)"]


def test_missing_files_may_be_bad_images_of_those_that_are_left_out(folder):
    (folder / "broken").symlink_to("gone")
    assert found("gone.jpg", "broken", "cat", missing=True)[0] == ["gone.jpg", "broken", "cat"]
    with pytest.raises(DataError, match="neither a file nor a folder"):
        found(os.devnull, missing=True)


def test_a_list_of_images_keeps_any_name_and_goes_to_workers():
    paths = ["a.jpg", "/x/caf\udce9.jpg", "\u732b/1", "a.jpg"]
    images = pickle.loads(pickle.dumps(ImageList.of(paths)))
    assert len(images) == 4
    assert [images.name(index) for index in range(4)] == paths
    assert [images.extent(index).file for index in range(4)] == paths
    assert images.labels.tolist() == [0, 0, 0, 0]
    with pytest.raises(IndexError):
        images.name(4)
