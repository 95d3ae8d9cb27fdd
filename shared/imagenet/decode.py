"""Decode an image as RGB, and inspect it for faults. Training, evaluation and check-data decode alike.

EXIF orientation is not applied and colour profiles are not converted, as in torchvision and timm, with which the
published accuracies on ImageNet were measured.
"""

from __future__ import annotations

import contextlib
import os
import re
import warnings
from dataclasses import dataclass
from typing import Any, BinaryIO, Iterator, List, Tuple, Union

import numpy as np

_FORMATS = {  # extension: Pillow's name of the format
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".ppm": "PPM",
    ".pgm": "PPM",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
}
OPENED = (*sorted(set(_FORMATS.values())), "GIF")  # not EPS, for which Pillow starts another program
_ALIASES = {"MPO": "JPEG"}  # a JPEG followed by previews
_ORIENTATION = 0x0112  # EXIF 2.3, 4.6.4
_WNID = re.compile(r"n\d{8}")
_BITS, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0  # TIFF 6.0, section 8


class WhiteUnknown(ValueError):
    """The pixels are signed, of 32 bits or floating-point, and the file does not define which value is white."""


class BadImage(Exception):
    """The file cannot be read as an image. The message is the reason, in a few words."""


def decode(file: Union[str, BinaryIO]) -> Any:
    """Return all pixels as a PIL.Image of mode RGB. `file` is a path or a file in memory.

    Grey images of 9 to 16 bits are scaled so that white stays white; Pillow's conversion would clip them at 255.
    Raises WhiteUnknown for other wide pixels. For a damaged file or one with more than some 89 million pixels, Pillow
    raises one of some ten kinds.
    """
    with _decoded(file) as (rgb, _, _):
        return rgb


def read_rgb(file: Union[str, BinaryIO]) -> Any:
    """As `decode`, but raises only BadImage: for a file that is missing, damaged, truncated, empty or too large."""
    try:
        return decode(file)
    except Exception as error:  # Pillow raises some ten kinds at damaged files
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, OSError) and error.errno is not None:
            reason = error.strerror or reason
        raise BadImage(reason.replace(repr(file), "the file")[:120]) from error


@contextlib.contextmanager
def _decoded(file: Union[str, BinaryIO]) -> Iterator[Tuple[Any, Any, str]]:
    """Yield the image as RGB, as it is in the file, and its mode there. Raises as `decode` does.

    Warnings, as of damaged EXIF data, are suppressed; that of too many pixels is an error.
    """
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(file, formats=OPENED) as image:
            mode = image.mode  # some readers change it while they load
            image.load()
            yield _rgb(image), image, mode


def _rgb(image: Any) -> Any:
    if image.mode == "RGB":
        return image
    if image.mode[0] in "IF":
        image = _to_8_bits(image)
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns of the direct way
    return image.convert("RGB")


def _to_8_bits(image: Any) -> Any:
    """Scale a grey image of more bits to 8. In TIFF, 0 may be white."""
    from PIL import Image

    tags = getattr(image, "tag_v2", {})
    if image.mode.startswith("I;16"):
        white = 2 ** int(tags.get(_BITS, (16,))[0]) - 1
    elif image.mode == "I" and image.format in ("PNG", "PPM"):
        white = 2**16 - 1  # how Pillow stores 16 bits of these formats
    else:
        raise WhiteUnknown(f"no value of its pixels is known to be white (mode {image.mode}); save it with 16 bits")
    grey = ((np.asarray(image).astype(np.uint32) * 255 + white // 2) // white).astype(np.uint8)
    return Image.fromarray(255 - grey if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO else grey)


@dataclass(frozen=True)
class Finding:
    """A fault of an image, which makes it unusable, or a remark."""

    is_fault: bool
    kind: str
    detail: str = ""


def inspect(file: Union[str, BinaryIO], name: str) -> List[Finding]:
    """Decode all pixels and return the findings. Raises nothing, whatever the content.

    `file` is a path or a file in memory, `name` its class and file name, as in 'n01440764/n01440764_18.JPEG'. An image
    with more pixels than Pillow's limit, some 89 million, is a fault and is not decoded.
    """
    try:
        if (os.path.getsize(file) if isinstance(file, str) else file.seek(0, os.SEEK_END)) == 0:
            return [Finding(True, "empty")]
        with _decoded(file) as (_, image, mode):
            return _findings(image, mode, name)
    except MemoryError:
        return [Finding(True, "too large for this machine's memory")]
    except Exception as error:  # Pillow raises some ten kinds at damaged files
        return [_fault(error)]


def _findings(image: Any, mode: str, name: str) -> List[Finding]:
    found = []
    if mode == "CMYK":
        found.append(Finding(False, "CMYK"))
    elif mode in ("L", "1"):
        found.append(Finding(False, "grey"))
    elif mode[0] == "I":
        found.append(Finding(False, "grey of more than 8 bits, scaled to 8"))
    elif mode != "RGB":
        found.append(Finding(False, "neither RGB nor grey", f"mode {mode}"))
    orientation = _orientation(image)
    if orientation not in (None, 1):
        found.append(Finding(False, "EXIF orientation, which is not applied", str(orientation)))
    return found + _name_findings(name, _ALIASES.get(str(image.format), str(image.format)))


def _orientation(image: Any) -> Any:
    """The EXIF orientation; None if there is none or the EXIF data is damaged."""
    try:
        return image.getexif().get(_ORIENTATION)
    except Exception:
        return None


def _name_findings(name: str, kind: str) -> List[Finding]:
    folder, file_name = os.path.split(name)
    extension = os.path.splitext(file_name)[1]
    found = []
    if _FORMATS.get(extension.lower()) != kind:
        found.append(Finding(False, f"named {extension} without being one", kind))
    wnid, class_name = _WNID.match(file_name), folder.split("/")[0]
    if wnid and _WNID.match(class_name) and wnid.group() != class_name:
        found.append(Finding(False, "named as of another class", wnid.group()))
    return found


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
