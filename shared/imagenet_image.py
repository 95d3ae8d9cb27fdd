"""One image: can it be decoded, and is it what its name says?"""

from __future__ import annotations

import os
import re
import warnings
from dataclasses import dataclass
from typing import Any, BinaryIO, List, Union

_FORMATS = {  # extension: what Pillow calls the format
    ".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".ppm": "PPM", ".pgm": "PPM", ".bmp": "BMP", ".tif": "TIFF",
    ".tiff": "TIFF", ".webp": "WEBP",
}  # fmt: skip
OPENED = (*sorted(set(_FORMATS.values())), "GIF")  # not EPS, for which Pillow would start another program
_ALIASES = {"MPO": "JPEG"}  # a JPEG with previews behind it
_ORIENTATION = 0x0112  # EXIF 2.3, 4.6.4
_WNID = re.compile(r"n\d{8}")


@dataclass(frozen=True)
class Finding:
    """Something to say about an image: a fault, which makes it useless, or a remark."""

    is_fault: bool
    kind: str
    detail: str = ""


def inspect(file: Union[str, BinaryIO], name: str) -> List[Finding]:
    """Decode every pixel of the image and return what is to be said. Raises nothing for whatever is in it.

    `file` is a path or a file in memory, `name` that of its class and its own, as in 'n01440764/n01440764_18.JPEG'. An
    image of more than Pillow's limit of pixels, some 89 million, is a fault and is not decoded.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about damaged EXIF data and the like, which nobody reads
        warnings.simplefilter("error", _bomb_warning())
        try:
            if (os.path.getsize(file) if isinstance(file, str) else file.seek(0, os.SEEK_END)) == 0:
                return [Finding(True, "empty")]
            return _decoded(file, name)
        except MemoryError:
            return [Finding(True, "too large for this machine's memory")]
        except Exception as error:  # Pillow raises some ten kinds at damaged files
            return [_fault(error)]


def _bomb_warning() -> Any:
    from PIL import Image

    return Image.DecompressionBombWarning


def _decoded(file: Union[str, BinaryIO], name: str) -> List[Finding]:
    from PIL import Image

    with Image.open(file, formats=OPENED) as image:
        kind = _ALIASES.get(str(image.format), str(image.format))
        mode = image.mode
        image.load()
        orientation = _orientation(image)
    found = []
    if mode == "CMYK":
        found.append(Finding(False, "CMYK"))
    elif mode in ("L", "1"):
        found.append(Finding(False, "grey"))
    elif mode != "RGB":
        found.append(Finding(False, "neither RGB nor grey", f"mode {mode}"))
    if orientation not in (None, 1):
        found.append(Finding(False, "EXIF orientation, which is not applied", str(orientation)))
    return found + _name_findings(name, kind)


def _orientation(image: Any) -> Any:
    """The EXIF orientation, or None where there is none or the EXIF data is damaged, which harms no pixel."""
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
    wnid, class_name = _WNID.match(file_name), os.path.basename(folder)
    if wnid and _WNID.match(class_name) and wnid.group() != class_name:
        found.append(Finding(False, "named as of another class", wnid.group()))
    return found


def _fault(error: Exception) -> Finding:
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return Finding(True, "no image")
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return Finding(True, "too many pixels", f"more than {Image.MAX_IMAGE_PIXELS:,}")
    if isinstance(error, OSError) and error.errno is not None:
        return Finding(True, "cannot be read", error.strerror or "")
    return Finding(True, "truncated or damaged", f"{type(error).__name__}: {error}"[:200])
