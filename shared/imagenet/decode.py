"""Decode an image as RGB, crop it, and inspect it for faults. Training, evaluation and check-data decode alike.

EXIF orientation is not applied and colour profiles are not converted, as in torchvision and timm, with which the
published accuracies on ImageNet were measured.
"""

from __future__ import annotations

import contextlib
import os
import re
import warnings
from typing import Any, BinaryIO, Iterator, List, NamedTuple, Tuple, Union

import numpy as np

from shared.errors import UsageError

_EXTENSIONS = {"JPEG": "jpg jpeg", "PNG": "png", "PPM": "ppm pgm", "BMP": "bmp", "TIFF": "tif tiff", "WEBP": "webp"}
FORMATS = {f".{one}": kind for kind, extensions in _EXTENSIONS.items() for one in extensions.split()}  # by extension
_OPENED = (*_EXTENSIONS, "GIF")  # not EPS, for which Pillow starts another program
_ALIASES = {"MPO": "JPEG"}  # a JPEG followed by previews
_ORIENTATION = 0x0112  # EXIF 2.3, 4.6.4
_WNID = re.compile(r"n\d{8}")
_BITS, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0  # TIFF 6.0, section 8


class WhiteUnknown(ValueError):
    """The pixels are signed, of 32 bits or floating-point, and the file does not define which value is white."""


class BadImage(Exception):
    """The file cannot be read as an image; the message is the reason."""


def check_pillow() -> None:
    """Raise UsageError where Pillow is missing or older than 9.1, the first with all names that are used here."""
    try:
        import PIL
        from PIL import Image
    except ImportError as error:
        raise UsageError("reading images needs Pillow; pip install Pillow") from error
    if not hasattr(Image, "Resampling"):
        raise UsageError(f"reading images needs Pillow 9.1 or newer, not {PIL.__version__}; pip install -U Pillow")


def read_rgb(file: Union[str, BinaryIO]) -> Any:
    """Return all pixels as a PIL.Image of mode RGB. `file` is a path or a file in memory.

    Grey images of 9 to 16 bits are scaled so that white stays white; Pillow's conversion would clip them at 255. Raises
    only BadImage: for a file that is missing, damaged, truncated, empty, too large, or of unknown white.
    """
    try:
        with _decoded(file) as (rgb, _, _):
            return rgb
    except Exception as error:  # Pillow raises some ten kinds at damaged files
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, OSError) and error.errno is not None:
            reason = error.strerror or reason
        raise BadImage(reason.replace(repr(file), "the file")[:120]) from error


@contextlib.contextmanager
def _decoded(file: Union[str, BinaryIO]) -> Iterator[Tuple[Any, Any, str]]:
    """Yield the image as RGB, as it is in the file, and its mode there."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as of damaged EXIF data
        warnings.simplefilter("error", Image.DecompressionBombWarning)  # more than some 89 million pixels
        with Image.open(file, formats=_OPENED) as image:
            mode = image.mode  # some readers change it while they load
            image.load()
            yield to_rgb(image), image, mode


def to_rgb(image: Any) -> Any:
    """A PIL.Image of any mode as one of mode RGB. Raises WhiteUnknown, and what Pillow raises at damaged files."""
    from PIL import Image

    if image.mode == "RGB":
        return image
    if image.mode[0] in "IF":  # grey of more than 8 bits
        tags = getattr(image, "tag_v2", {})
        if image.mode.startswith("I;16"):
            white = 2 ** int(tags.get(_BITS, (16,))[0]) - 1
        elif image.mode == "I" and image.format in ("PNG", "PPM"):
            white = 2**16 - 1  # how Pillow stores 16 bits of these formats
        else:
            raise WhiteUnknown(f"no value of its pixels is known to be white (mode {image.mode}); save it with 16 bits")
        grey = ((np.asarray(image).astype(np.uint32) * 255 + white // 2) // white).astype(np.uint8)
        image = Image.fromarray(255 - grey if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO else grey)
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns of the direct way
    return image.convert("RGB")


def centre_crop(image: Any, size: int, side: int, keep_aspect: bool = True) -> np.ndarray:
    """A PIL.Image resized to a shorter side of `side`, and from its centre uint8 [size, size, 3].

    torchvision's Resize (bilinear, antialiased) and CenterCrop, bit for bit. Without `keep_aspect` the image is
    squeezed to a square of `side` instead.
    """
    from PIL import Image

    resized, left, top = centre_window(image.width, image.height, size, side, keep_aspect)
    if image.size != resized:
        image = image.resize(resized, Image.Resampling.BILINEAR)
    return np.asarray(image.crop((left, top, left + size, top + size)))  # zeros outside the image


def centre_window(
    width: int, height: int, size: int, side: int, keep_aspect: bool = True
) -> Tuple[Tuple[int, int], int, int]:
    """The (width, height) of an image of this width and height after it is resized, and there the crop's left and top.

    As `centre_crop` does it; they are negative where the crop is larger.
    """
    if not keep_aspect:
        return (side, side), _crop_start(side, size), _crop_start(side, size)
    short, long = sorted((width, height))
    longer = int(side * long / short)
    across, down = (side, longer) if width <= height else (longer, side)
    return (across, down), _crop_start(across, size), _crop_start(down, size)


def _crop_start(length: int, size: int) -> int:
    """The start of a centre crop. torchvision rounds differently where the image is smaller than the crop."""
    return round((length - size) / 2) if length >= size else -((size - length) // 2)


def is_turned(path: str) -> bool:
    """Whether the EXIF data of this file turn or mirror its image, which `read_rgb` does not. Raises nothing."""
    with contextlib.suppress(Exception), warnings.catch_warnings():  # damaged data, or no Pillow
        from PIL import Image

        warnings.simplefilter("ignore")
        with Image.open(path, formats=_OPENED) as image:
            return bool(image.getexif().get(_ORIENTATION, 1) != 1)
    return False


class Finding(NamedTuple):
    """A fault of an image, which makes it unusable, or a remark."""

    is_fault: bool
    kind: str
    detail: str = ""


def inspect(file: Union[str, BinaryIO], name: str) -> List[Finding]:
    """Decode a path or a file in memory, of the class and file name `name`, and return the findings. Raises nothing."""
    try:
        if (os.path.getsize(file) if isinstance(file, str) else file.seek(0, os.SEEK_END)) == 0:
            return [Finding(True, "empty")]
        with _decoded(file) as (_, image, mode):
            return [Finding(False, *remark) for remark in (*_pixel_remarks(image, mode), *_name_remarks(image, name))]
    except MemoryError:
        return [Finding(True, "too large for this machine's memory")]
    except Exception as error:  # Pillow raises some ten kinds at damaged files
        return [_fault(error)]


def _pixel_remarks(image: Any, mode: str) -> Iterator[Tuple[str, ...]]:
    if mode in ("CMYK", "L", "1"):
        yield ("CMYK" if mode == "CMYK" else "grey",)
    elif mode[0] == "I":
        yield ("grey of more than 8 bits, scaled to 8",)
    elif mode != "RGB":
        yield "neither RGB nor grey", f"mode {mode}"
    with contextlib.suppress(Exception):  # the EXIF data are damaged
        orientation = image.getexif().get(_ORIENTATION, 1)
        if orientation != 1:
            yield "EXIF orientation, which is not applied", str(orientation)


def _name_remarks(image: Any, name: str) -> Iterator[Tuple[str, ...]]:
    kind = _ALIASES.get(str(image.format), str(image.format))
    folder, file_name = os.path.split(name)
    extension = os.path.splitext(file_name)[1]
    if FORMATS.get(extension.lower()) != kind:
        yield f"named {extension} without being one", kind
    wnid, class_name = _WNID.match(file_name), folder.split("/")[0]
    if wnid and _WNID.match(class_name) and wnid.group() != class_name:
        yield "named as of another class", wnid.group()


def _fault(error: Exception) -> Finding:
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, WhiteUnknown):
        return Finding(True, "of unknown white", str(error))
    if isinstance(error, UnidentifiedImageError):
        return Finding(True, "no image")
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return Finding(True, "too many pixels", f"more than {Image.MAX_IMAGE_PIXELS:,}")
    if isinstance(error, OSError) and error.errno is not None:
        return Finding(True, "cannot be read", error.strerror or "")
    return Finding(True, "truncated or damaged", f"{type(error).__name__}: {error}"[:200])
