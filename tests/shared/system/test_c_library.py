"""A C file becomes a library once; each way that this can fail is a reason. See also test_jpeg_crop.py."""

from __future__ import annotations

import ctypes
import os
import shutil

import pytest

from shared.system import c_library
from shared.system.c_library import Unavailable, compiled

SOURCE = "int answer(void) { return NUMBER; }\n"


@pytest.fixture
def source(tmp_path, monkeypatch):
    if not any(shutil.which(name) for name in c_library._COMPILERS):
        pytest.skip("no C compiler")
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(c_library, "places", lambda name: [tmp_path / "cache" / name])
    path = tmp_path / "answer.c"
    path.write_text(SOURCE)
    return path


def test_flags_and_key_are_part_of_the_name_and_nothing_else_is_left(source, tmp_path):
    first, second = (compiled(source, ["-fPIC", f"-DNUMBER={number}"]) for number in (41, 42))
    assert [ctypes.CDLL(path).answer() for path in (first, second)] == [41, 42]
    other = compiled(source, ["-fPIC", "-DNUMBER=42"], ["another processor"])
    assert sorted(os.listdir(tmp_path / "cache" / "compiled")) == sorted(map(os.path.basename, (first, second, other)))


def test_what_is_compiled_is_kept(source, monkeypatch):
    path = compiled(source, ["-fPIC", "-DNUMBER=1"])
    monkeypatch.setenv("CC", "false")
    assert compiled(source, ["-fPIC", "-DNUMBER=1"]) == path
    source.write_text(SOURCE + "\n")
    with pytest.raises(Unavailable, match="false failed"):
        compiled(source, ["-fPIC", "-DNUMBER=1"])


def test_a_symbol_that_nothing_has_is_a_reason(source):
    source.write_text("extern int nobody(void); int answer(void) { return nobody(); }\n")
    with pytest.raises(Unavailable, match="nobody"):
        compiled(source, ["-fPIC"])
