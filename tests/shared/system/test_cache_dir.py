"""Where caches are: the user's own folder first, then one below the temporary folder that nobody else has made."""

from __future__ import annotations

import os
import tempfile

import pytest

from shared.errors import UsageError
from shared.system import cache_dir


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def _own(temporary):
    return temporary / f"se-pnas-kit-{os.getuid()}"


def test_the_named_folder_first_then_the_temporary_one(temporary, tmp_path):
    assert list(cache_dir.places("index", tmp_path / "cache")) == [
        tmp_path / "cache" / "se-pnas-kit" / "index",
        _own(temporary) / "se-pnas-kit" / "index",
    ]


def test_a_link_in_the_temporary_folder_is_not_followed(temporary, tmp_path):
    _own(temporary).symlink_to(tmp_path)
    assert len(list(cache_dir.places("index", tmp_path / "cache"))) == 1


def test_a_folder_of_somebody_else_is_not_used(temporary, tmp_path, monkeypatch):
    own = _own(temporary)
    own.mkdir()
    assert len(list(cache_dir.places("index", tmp_path / "cache"))) == 2
    user = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: user + 1)
    own.rename(_own(temporary))
    assert len(list(cache_dir.places("index", tmp_path / "cache"))) == 1


@pytest.mark.parametrize("home", ["", "relative"])
def test_without_a_home_there_is_no_folder_of_that_name(temporary, monkeypatch, home):
    monkeypatch.delenv("KIT_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", home)
    assert list(cache_dir.places("index")) == [_own(temporary) / "se-pnas-kit" / "index"]
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert str(next(cache_dir.places("index"))) == "/xdg/se-pnas-kit/index"


@pytest.mark.parametrize(("named", "says"), [("", "KIT_CACHE is empty; "), ("~nosuchuser/c", "no such user")])
def test_a_named_cache_is_not_replaced(monkeypatch, named, says):
    monkeypatch.setenv("KIT_CACHE", named)
    with pytest.raises(UsageError, match=says):
        list(cache_dir.places("index"))


def test_a_named_cache_may_begin_with_the_home(monkeypatch):
    monkeypatch.setenv("HOME", "/home")
    monkeypatch.setenv("KIT_CACHE", "~/c")
    assert str(next(cache_dir.places("index"))) == "/home/c/se-pnas-kit/index"
