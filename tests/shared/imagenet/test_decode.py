"""Every image is decoded in one way: what check-data has no fault to find with, training sees as it is."""

from __future__ import annotations

import io
import struct
import sys

import numpy as np
import pytest

from shared.errors import UsageError
from shared.imagenet.decode import BadImage, centre_crop, check_pillow, inspect, is_turned, read_rgb

Image = pytest.importorskip("PIL.Image")

RAMP = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
WANTED = (RAMP / 257.0).round().astype(np.uint8)


def _saved(form, pixels=RAMP, **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, **options)
    return file


def _tiff(order, bits, photometric, pixels, sample_format=1):
    """A grey TIFF of one strip, tags in the order of TIFF 6.0: Pillow writes neither 12 bits nor white as 0."""
    height, width = pixels[0].shape[0], pixels[0].shape[1]
    data = pixels[1]
    tags = [
        (256, 3, width),
        (257, 3, height),
        (258, 3, bits),
        (259, 3, 1),
        (262, 3, photometric),
        (273, 4, 8),
        (277, 3, 1),
        (278, 3, height),
        (279, 4, len(data)),
        (339, 3, sample_format),
    ]
    entries = b""
    for tag, kind, value in tags:
        content = struct.pack(order + ("HH" if kind == 3 else "I"), *((value, 0) if kind == 3 else (value,)))
        entries += struct.pack(order + "HHI", tag, kind, 1) + content
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8 + len(data))
    return io.BytesIO(head + data + struct.pack(order + "H", len(tags)) + entries + struct.pack(order + "I", 0))


def _packed_12(pixels):
    """Two pixels in three bytes, most significant first."""
    even, odd = (pixels >> 4).ravel()[::2].astype(int), (pixels >> 4).ravel()[1::2].astype(int)
    return np.stack([even >> 4, (even & 15) << 4 | odd >> 8, odd & 255], 1).astype(np.uint8).tobytes()


def _pgm(most, form=b"P5"):
    values = np.round(RAMP / 65535.0 * most).astype(np.uint16)
    body = values.astype(">u2").tobytes() if form == b"P5" else " ".join(map(str, values.ravel())).encode()
    return io.BytesIO(form + b" 64 64 %d\n" % most + body)


@pytest.mark.parametrize(
    ("made", "off"),
    [
        (lambda: _saved("PNG"), 0),
        (lambda: _saved("TIFF"), 0),
        (lambda: _saved("TIFF", compression="tiff_lzw"), 0),
        (lambda: _tiff(">", 16, 1, (RAMP, RAMP.astype(">u2").tobytes())), 0),
        (lambda: _tiff("<", 16, 1, (RAMP, RAMP.astype("<u2").tobytes())), 0),
        (lambda: _tiff("<", 16, 0, (RAMP, (65535 - RAMP).astype("<u2").tobytes())), 0),
        (lambda: _tiff("<", 12, 1, (RAMP, _packed_12(RAMP))), 1),
        (lambda: _pgm(65535), 0),
        (lambda: _pgm(1023), 1),
        (lambda: _pgm(65535, b"P2"), 0),
    ],
    ids=[
        "png",
        "tiff",
        "tiff lzw",
        "tiff big-endian",
        "tiff little-endian",
        "tiff white is 0",
        "tiff 12 bits",
        "pgm",
        "pgm 10 bits",
        "pgm as text",
    ],
)
def test_grey_of_more_than_8_bits_is_scaled(made, off):
    image = read_rgb(made())
    pixels = np.asarray(image)
    assert image.mode == "RGB"
    for channel in range(3):
        assert np.abs(pixels[..., channel].astype(int) - WANTED).max() <= off
    (finding,) = inspect(made(), "a." + {"PPM": "pgm", "TIFF": "tif"}.get(Image.open(made()).format, "png"))
    assert (finding.is_fault, finding.kind) == (False, "grey of more than 8 bits, scaled to 8")


@pytest.mark.parametrize(
    "made",
    [
        lambda: _saved("TIFF", (RAMP / 65535).astype(np.float32)),
        lambda: _saved("TIFF", RAMP.astype(np.int32)),
        lambda: _tiff("<", 16, 1, (RAMP, RAMP.astype("<i2").tobytes()), sample_format=2),
        lambda: _tiff("<", 32, 1, (RAMP, RAMP.astype("<u4").tobytes())),
    ],
    ids=["float", "signed 32 bits", "signed 16 bits", "unsigned 32 bits"],
)
def test_an_image_whose_white_nobody_knows_is_bad(made):
    with pytest.raises(BadImage, match=r"known to be white \(mode [IF]\); save it with 16 bits"):
        read_rgb(made())
    (finding,) = inspect(made(), "a.tif")
    assert (finding.is_fault, finding.kind) == (True, "of unknown white")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I;16", "I", "F"])
@pytest.mark.parametrize("form", ["PNG", "TIFF", "JPEG", "PPM", "BMP", "GIF", "WEBP"])
def test_check_data_finds_a_fault_where_training_does(mode, form):
    file = io.BytesIO()
    try:
        Image.new(mode, (6, 4)).save(file, form)
    except (OSError, KeyError, ValueError):
        pytest.skip("Pillow writes no such file")
    try:
        readable = read_rgb(file).mode == "RGB"
    except Exception:  # as Pillow pleases
        readable = False
    assert any(finding.is_fault for finding in inspect(file, "a/a")) != readable


def test_a_crop_that_needs_no_resizing_has_the_pixels_of_the_image():
    pixels = np.random.RandomState(0).randint(0, 256, (32, 48, 3)).astype(np.uint8)
    assert np.array_equal(centre_crop(Image.fromarray(pixels[:, :32]), 32, 32), pixels[:, :32])
    assert np.array_equal(centre_crop(Image.fromarray(pixels), 32, 32), pixels[:, 8:40])
    assert np.array_equal(centre_crop(Image.fromarray(pixels), 20, 32), pixels[6:26, 14:34])


def test_a_crop_of_a_larger_image_averages_its_pixels():
    """Antialiased: stripes of one pixel, of which a shrinking without it would keep one colour."""
    stripes = np.zeros((128, 256, 3), np.uint8)
    stripes[:, ::2] = 254
    inner = centre_crop(Image.fromarray(stripes), 32, 32)[2:-2, 2:-2]
    assert inner.shape == (28, 28, 3)
    assert np.abs(inner.astype(int) - 127).max() <= 8


def test_without_pillow_and_with_an_old_one(monkeypatch, tmp_path):
    check_pillow()
    monkeypatch.delattr(Image, "Resampling")
    with pytest.raises(UsageError, match=r"needs Pillow 9.1 or newer, not \d+.*; pip install -U Pillow"):
        check_pillow()
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(UsageError, match="reading images needs Pillow; pip install Pillow"):
        check_pillow()
    assert not is_turned(str(tmp_path / "gone.jpg"))
