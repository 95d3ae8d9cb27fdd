"""Of a JPEG, decode no more than the crop needs: pixels are Pillow's, bit for bit, in about half of its time.

`jpeg_crop.c` does it, with the libjpeg-turbo that Pillow itself has loaded. It is compiled once, by the system's C
compiler, and kept in the cache. Whatever is missing, and any file that is not a sound baseline JPEG in colour, is left
to Pillow.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import warnings
from pathlib import Path
from typing import Any, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from shared.system.c_library import Unavailable, compiled

_SOURCE = Path(__file__).with_name("jpeg_crop.c")
_INCLUDED = ("jpeg_library.h", "jpeg_header.h", "jpeg_huffman.h", "jpeg_resample.h")
_FLAGS = ("-O3", "-fPIC", "-ffp-contract=off")  # a fused multiply-add would round weights differently
_ASK_PILLOW = 2  # of jpeg_crop_size


class NotDecoded(Exception):
    """The file is damaged, or of a kind that is left to Pillow."""


class Box(NamedTuple):
    """A crop of an image, in pixels."""

    left: int
    top: int
    width: int
    height: int


class JpegFile(NamedTuple):
    """A JPEG in memory, its size in pixels, and memory that a result of its shape and dtype uint8 may use."""

    cropper: JpegCropper
    content: bytes
    width: int
    height: int
    memory: Optional[np.ndarray] = None

    def resized(self, box: Box, size: Tuple[int, int], window: Optional[Box] = None, mirrored: bool = False) -> Any:
        """The box, resized to `size` (width, height); of this the window (default: all): uint8 [height, width, 3].

        As `Image.resize(size, Image.Resampling.BILINEAR, box)`, `crop` and `transpose` make it. Raises NotDecoded.
        """
        window = window or Box(0, 0, *size)
        for part, (width, height) in ((box, (self.width, self.height)), (window, size)):
            if min(part) < 0 or 0 in part[2:] or part.left + part.width > width or part.top + part.height > height:
                raise ValueError(f"{part} is not within {width} x {height}")  # C would read or write elsewhere
        result, shape = self.memory, (window.height, window.width, 3)
        if result is None or result.shape != shape or not result.flags.c_contiguous:
            result = np.empty(shape, np.uint8)
        if not self.cropper.decode(self.content, box, size, window, mirrored, result):
            raise NotDecoded
        return result


class JpegCropper:
    """The compiled program at this path, with the libjpeg of Pillow's `extension`. It can be pickled.

    `tall_first`: Pillow resizes tall images first in height, as it does from version 13 on. Raises Unavailable.
    """

    def __init__(self, program: str, extension: str, tall_first: bool) -> None:
        self._made_of = program, extension, tall_first
        try:
            self._program = ctypes.CDLL(program)  # calls release the GIL
        except OSError as error:
            raise Unavailable(f"{program} does not load ({error})") from error
        self._program.jpeg_crop_open.restype = ctypes.c_char_p
        lacks = self._program.jpeg_crop_open(os.fsencode(extension))
        if lacks is not None:
            raise Unavailable(f"the libjpeg of this Pillow lacks {lacks.decode()}")

    def __reduce__(self) -> Tuple[Any, ...]:
        return JpegCropper, self._made_of

    def open(self, content: bytes, memory: Optional[np.ndarray] = None) -> Optional[JpegFile]:
        """The file with this content, None where it is left to Pillow."""
        width, height = ctypes.c_int(), ctypes.c_int()
        length = ctypes.c_size_t(len(content))
        known = self._program.jpeg_crop_size(content, length, ctypes.byref(width), ctypes.byref(height))
        if not known or (known == _ASK_PILLOW and not _is_opened(content)):
            return None
        return JpegFile(self, content, width.value, height.value, memory)

    def decode(
        self, content: bytes, box: Box, size: Tuple[int, int], window: Box, mirrored: bool, result: np.ndarray
    ) -> int:
        """Fill `result`, uint8 [window.height, window.width, 3]; see `JpegFile.resized`.

        0: it is left to Pillow; 1: libjpeg has decoded it; 2: libjpeg, but for the Huffman codes.
        """
        numbers = (_ints(box), _ints(size), _ints(window), int(self._made_of[2]), int(mirrored))
        pixels = ctypes.c_void_p(result.ctypes.data)
        return int(self._program.jpeg_crop_resize(content, ctypes.c_size_t(len(content)), *numbers, pixels))


def make_cropper() -> JpegCropper:
    """The decoder, compiled where that has not been done, after it has given Pillow's pixels. Raises Unavailable."""
    from PIL import _imaging

    program = made_library()
    for tall_first in (True, False):
        cropper = JpegCropper(program, str(_imaging.__file__), tall_first)
        if all(_is_as_pillow(cropper, *kind) for kind in ((70, 160, 0), (160, 70, 2))):
            return cropper
    raise Unavailable("its pixels are not those of this Pillow")


def made_library() -> str:
    """The path of the compiled program. Raises Unavailable."""
    return compiled(_SOURCE, _FLAGS, [_SOURCE.with_name(name).read_text(encoding="utf-8") for name in _INCLUDED])


def _is_as_pillow(cropper: JpegCropper, width: int, height: int, subsampling: int) -> bool:
    """Whether a box of a wave, `width` x `height`, compressed with this subsampling of the colours, is the same."""
    from PIL import Image

    y, x, colour = np.ogrid[:height, :width, :3]
    wave = 127.5 + 127.5 * np.sin(0.3 * x + 0.2 * y * (colour + 1) + colour)
    file = io.BytesIO()
    Image.fromarray(wave.astype(np.uint8)).save(file, "JPEG", quality=90, subsampling=subsampling)
    box, size, jpeg = Box(9, 21, width - 20, height - 32), (23, 27), cropper.open(file.getvalue())
    corners = (box.left, box.top, box.left + box.width, box.top + box.height)
    with contextlib.suppress(NotDecoded), Image.open(file) as image:
        expected = np.asarray(image.resize(size, Image.Resampling.BILINEAR, box=corners))
        return jpeg is not None and np.array_equal(jpeg.resized(box, size), expected)
    return False


def _is_opened(content: bytes) -> bool:
    """Whether Pillow takes the header, which it reads more strictly than libjpeg; the pixels are not decoded."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with contextlib.suppress(Exception), Image.open(io.BytesIO(content), formats=("JPEG",)) as image:
            return bool(image.mode == "RGB")
    return False


def _ints(numbers: Sequence[int]) -> Any:
    return (ctypes.c_int * len(numbers))(*numbers)
