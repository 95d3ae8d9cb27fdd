"""The name of an exported file: its format, and that it is complete or not there."""

from __future__ import annotations

import os
import sys

import pytest

from shared.errors import UsageError
from shared.export.output import check_installed, complete, named

ENDINGS = {"saved": "", "onnx": ".onnx", "keras": ".keras"}


@pytest.mark.parametrize(
    ("output", "form", "found"),
    [
        ("a/m.onnx", None, "onnx"),
        ("m.keras", "keras", "keras"),
        ("models/3", None, "saved"),
        ("model-1.0", "saved", "saved"),
    ],
)
def test_the_format_is_that_of_the_option_or_of_the_ending(output, form, found):
    path, name = named(output, form, ENDINGS)
    assert (str(path), name) == (output, found)


@pytest.mark.parametrize(
    ("output", "form", "says"),
    [
        (None, None, "name it with --output FOLDER (saved) or FILE.onnx (onnx) or FILE.keras (keras)"),
        ("m.h5", None, "the ending of m.h5 names no format; give --output FOLDER (saved) or FILE.onnx"),
        ("m.h5", "onnx", "m.h5 is not that of --format onnx; give --output FILE.onnx, or leave --format out"),
        ("m.onnx", "saved", "m.onnx is not that of --format saved; give --output FOLDER, or leave --format out"),
        ("m", "onnx", "the ending of m is not that of --format onnx; give --output FILE.onnx"),
        ("folder.onnx", None, "folder.onnx is a folder; name a file in it with --output folder.onnx/model.onnx"),
    ],
)
def test_what_does_not_fit_is_refused(output, form, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(UsageError) as error:
        named(output, form, ENDINGS)
    assert says in str(error.value)


def test_a_file_gets_its_name_last(tmp_path):
    output = tmp_path / "new" / "m.onnx"
    for content in ("first", "second"):
        with complete(output) as place:
            place.write_text(content)
            assert output.exists() == (content == "second")
        assert output.read_text() == content
        assert os.listdir(str(output.parent)) == ["m.onnx"]


def written(output, write, replaces=()):
    with complete(output, replaces) as place:
        write(place)


def test_after_an_error_nothing_has_changed(tmp_path):
    def interrupted(place):
        place.write_text("half")
        raise KeyboardInterrupt

    for output in (tmp_path / "m.onnx", tmp_path / "saved"):
        with pytest.raises(KeyboardInterrupt):
            written(output, interrupted)
    assert os.listdir(str(tmp_path)) == []


def folder(content):
    def write(place):
        (place / "extra").mkdir(parents=True)
        (place / "extra" / "deep.txt").write_text(content)
        (place / "saved.pb").write_text(content)

    return write


def test_a_folder_replaces_its_like_and_no_other(tmp_path):
    output = tmp_path / "saved"
    output.mkdir()  # an empty one is nobody's
    for content in ("first", "second"):
        written(output, folder(content), ("saved.pb", "extra"))
        assert (output / "extra" / "deep.txt").read_text() == content
    assert os.listdir(str(tmp_path)) == ["saved"]
    (output / "thesis.doc").write_text("mine")
    with pytest.raises(UsageError, match="saved is a folder with other files; name a new one"):
        written(output, folder("third"), ("saved.pb", "extra"))
    assert (output / "thesis.doc").read_text() == "mine"


def test_an_earlier_folder_stays_where_the_new_one_cannot_get_its_name(tmp_path, monkeypatch):
    output, rename = tmp_path / "saved", os.replace
    folder("first")(output)

    def failing(source, target):
        if target == str(output) and source.endswith("saved"):
            raise OSError(5, "Input/output error")
        rename(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(UsageError, match="cannot write .*saved"):
        written(output, folder("second"), ("saved.pb", "extra"))
    assert (output / "saved.pb").read_text() == "first"
    assert os.listdir(str(tmp_path)) == ["saved"]


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write .*; choose another place with --output"):
        written(tmp_path / "file" / "m.onnx", folder("not reached"))


def test_missing_packages_are_named(tmp_path, monkeypatch):
    (tmp_path / "for_a_newer_python.py").write_text("def f(:\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(sys.modules, "not_here", None)
    check_installed("JSON", ("json",))
    says = "ONNX needs not_here and for_a_newer_python, which cannot be imported; python -m pip install json not_here"
    with pytest.raises(UsageError, match=says):
        check_installed("ONNX", ("json", "not_here", "for_a_newer_python"))
