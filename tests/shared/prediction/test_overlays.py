"""Overlays: their colours against matplotlib's, their names, and that no file of anybody is replaced."""

from __future__ import annotations

import errno
import io
import os

import numpy as np
import pytest

from shared.errors import UsageError
from shared.prediction.overlays import Overlays, overlay

IMAGE = np.random.RandomState(0).randint(0, 256, (3, 256, 3)).astype(np.uint8)
RAMP = np.tile(np.arange(256, dtype=np.float32) / 255, (3, 1))


def test_half_is_the_image_and_half_the_colours_of_magma():
    magma = pytest.importorskip("matplotlib").colormaps["magma"]
    wanted = (IMAGE.astype(float) + 255 * magma(RAMP)[..., :3]) / 2
    found = overlay(IMAGE, RAMP)
    assert found.dtype == np.uint8
    assert np.abs(found - wanted).max() < 2.2 / 2 + 0.5


def test_a_larger_share_is_lighter():
    light = overlay(np.zeros_like(IMAGE), RAMP)[0] @ [0.2126, 0.7152, 0.0722]  # luminance of sRGB, roughly
    assert (np.diff(light[::4]) > 0).all()


def test_every_image_has_a_name_of_its_own(tmp_path):
    images = "cat.jpg b/cat.png CAT.gif cat-2.jpg .jpg two.dots.jpg noending cat.jpg".split()
    paths = Overlays(str(tmp_path), images).paths
    names = [paths[image].name for image in images]
    assert names == "cat.png cat-2.png CAT-3.png cat-2-2.png .jpg.png two.dots.png noending.png cat.png".split()


def test_ten_thousand_images_of_one_name(tmp_path):
    paths = Overlays(str(tmp_path), [f"{number}/0001.jpg" for number in range(10_000)]).paths
    assert len(set(paths.values())) == 10_000


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    image = pytest.importorskip("PIL.Image")
    files = Overlays(str(tmp_path / "new" / "maps"), ["a.jpg", "b.jpg"])
    assert not (tmp_path / "new").exists()
    files.make_folder()
    (path,) = files.write(["b.jpg"], IMAGE[None], RAMP[None])
    assert path == str(tmp_path / "new" / "maps" / "b.png")
    with open(path, "rb") as file:
        assert np.array_equal(np.asarray(image.open(io.BytesIO(file.read()))), overlay(IMAGE, RAMP))
    assert list(files.remarks()) == []

    def full(*unused):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UsageError, match="cannot write .*a.png .No space left on device.; free space"):
        files.write(["a.jpg"], IMAGE[None], RAMP[None])
    assert os.listdir(str(tmp_path / "new" / "maps")) == ["b.png"]


def test_a_map_that_is_the_same_everywhere_is_named(tmp_path):
    files = Overlays(str(tmp_path), ["a.jpg", "b.jpg"])
    files.write(["a.jpg", "b.jpg"], np.stack([IMAGE] * 2), np.stack([RAMP, np.ones_like(RAMP)]))
    (line,) = files.remarks()
    assert line.startswith("note: the overlays of 1 image show nothing (b.jpg): ")


def test_nothing_is_replaced(tmp_path):
    (tmp_path / "b.png").write_text("mine")
    with pytest.raises(UsageError, match="b.png exists and is not replaced; name another folder with --grad-cam"):
        Overlays(str(tmp_path), ["a.jpg", "x/b.jpg"])
    os.symlink("nowhere", str(tmp_path / "c.png"))
    with pytest.raises(UsageError, match="c.png exists"):
        Overlays(str(tmp_path), ["c.jpg"])
    with pytest.raises(UsageError, match="b.png is a file; name a folder"):
        Overlays(str(tmp_path / "b.png"), ["a.jpg"])
    with pytest.raises(UsageError, match="cannot write .*; name another folder with --grad-cam"):
        Overlays(str(tmp_path / "b.png" / "sub"), ["a.jpg"]).make_folder()
