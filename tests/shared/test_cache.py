"""Where caches are: the user's own folder first, then one below the temporary folder that nobody else has made."""
from __future__ import annotations

import os
import tempfile

import pytest

from shared import cache


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def _own(temporary):
    return temporary / f"se-pnas-kit-{os.getuid()}"


def test_the_named_folder_first_then_the_temporary_one(temporary, tmp_path):
    assert list(cache.places("index", tmp_path / "cache")) == [
        tmp_path / "cache" / "se-pnas-kit" / "index", _own(temporary) / "se-pnas-kit" / "index",
    ]  # fmt: skip


def test_a_link_in_the_temporary_folder_is_not_followed(temporary, tmp_path):
    _own(temporary).symlink_to(tmp_path)
    assert len(list(cache.places("index", tmp_path / "cache"))) == 1


def test_a_folder_of_somebody_else_is_not_used(temporary, tmp_path, monkeypatch):
    own = _own(temporary)
    own.mkdir()
    assert len(list(cache.places("index", tmp_path / "cache"))) == 2
    user = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: user + 1)
    own.rename(_own(temporary))
    assert len(list(cache.places("index", tmp_path / "cache"))) == 1
