"""Whatever a viewer can open is read; what is damaged says why. On real odd files and on damaged copies."""

from __future__ import annotations

import contextlib
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from shared.imagenet.decode import BadImage, read_rgb

ROOT = Path(__file__).resolve().parents[3]
ODD = Path(os.environ.get("KIT_TEST_DATA") or ROOT.parent / "shared" / "data") / "imagenet-odd"


@pytest.fixture
def jpeg(tmp_path):
    path = tmp_path / "image.JPEG"
    random = np.random.RandomState(0)
    Image.fromarray(random.randint(0, 256, (40, 50, 3)).astype(np.uint8)).save(path, quality=90)
    return path


@pytest.mark.skipif(not ODD.is_dir(), reason=f"{ODD} is not there; KIT_TEST_DATA names the folder of the real data")
def test_every_odd_file_that_a_viewer_opens_is_read():
    files = sorted(ODD.iterdir())
    assert len(files) >= 9
    for path in files:
        if "truncated" in path.name:
            with pytest.raises(BadImage, match="truncated"):
                read_rgb(str(path))
            continue
        image = read_rgb(str(path))
        with Image.open(path) as raw:
            assert (image.mode, image.size) == ("RGB", raw.size), path.name


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "YCbCr"])
def test_every_mode_becomes_rgb(mode, tmp_path):
    path = tmp_path / {"CMYK": "image.tif", "I;16": "image.tif", "YCbCr": "image.jpg"}.get(mode, "image.png")
    image = Image.new("RGB", (6, 4), (200, 100, 50))
    made = Image.new(mode, (6, 4)) if mode == "I;16" else image.convert(mode)
    made.save(path)
    assert (read_rgb(str(path)).mode, read_rgb(str(path)).size) == ("RGB", (6, 4))


def test_a_palette_with_transparency_raises_no_warning(tmp_path):
    Image.new("P", (4, 4)).save(tmp_path / "p.png", transparency=b"\x00\x80")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_rgb(str(tmp_path / "p.png")).mode == "RGB"


def test_orientation_is_not_applied_as_the_peers_do_not(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (20, 10)).save(tmp_path / "turned.jpg", exif=exif)
    assert read_rgb(str(tmp_path / "turned.jpg")).size == (20, 10)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "cannot identify"), (b"no image", "cannot identify"), (None, "No such file"), ("folder", "directory")],
)
def test_what_is_no_image_says_why(content, reason, tmp_path):
    path = tmp_path / "bad.JPEG"
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(BadImage, match=reason) as caught:
        read_rgb(str(path))
    assert len(str(caught.value)) <= 120
    assert "\n" not in str(caught.value)


def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch):
    Image.new("L", (600, 500)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200_000)
    with pytest.raises(BadImage, match="decompression bomb"):
        read_rgb(str(tmp_path / "bomb.png"))


@given(cut=st.integers(0, 100), flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), max_size=6))
@settings(deadline=None, max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_file_is_an_image_or_bad_and_nothing_else(cut, flips, jpeg):
    content = bytearray(jpeg.read_bytes())
    for position, mask in flips:
        content[position % len(content)] ^= mask
    damaged = jpeg.with_name("damaged.JPEG")
    damaged.write_bytes(content[: len(content) * cut // 100])
    with contextlib.suppress(BadImage):
        assert read_rgb(str(damaged)).mode == "RGB"


def test_an_image_cut_off_anywhere_is_bad(jpeg):
    content = jpeg.read_bytes()
    for length in range(0, len(content) - 3, 97):
        jpeg.with_name("cut.JPEG").write_bytes(content[:length])
        with pytest.raises(BadImage):
            read_rgb(str(jpeg.with_name("cut.JPEG")))


def test_damaged_exif_data_is_no_line_on_the_screen(tmp_path, recwarn):
    exif = b"Exif\0\0II*\0\x08\0\0\0\x02\0\x12\x01"  # two entries announced, the first one cut off
    Image.new("RGB", (40, 30)).save(tmp_path / "image.JPEG", exif=exif)
    assert read_rgb(str(tmp_path / "image.JPEG")).size == (40, 30)
    assert not list(recwarn)
