"""The PNG files against Pillow, which reads them back."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from shared.system import png

Image = pytest.importorskip("PIL.Image")
SHAPES = st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3))


@given(arrays.arrays(np.uint8, SHAPES))
def test_pillow_reads_the_same_pixels(pixels):
    with Image.open(io.BytesIO(png.encode(pixels))) as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
        assert np.array_equal(np.asarray(image), pixels)


def test_memory_in_another_order_is_the_same_picture():
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(3, 2, 3).transpose(1, 0, 2)
    assert png.encode(pixels) == png.encode(pixels.copy())


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((2, 2, 3)), np.zeros((2, 2), np.uint8), np.zeros((2, 2, 4), np.uint8), np.zeros((0, 2, 3), np.uint8)],
    ids=["float", "grey", "alpha", "empty"],
)
def test_anything_else_is_refused(pixels):
    with pytest.raises(ValueError, match=r"must be uint8 \[height, width, 3\]"):
        png.encode(pixels)
