"""Images as RGB: whatever a viewer can open, whole or not at all.

EXIF orientation is not applied and colour profiles are not converted: ImageNet's published accuracies were measured
so, torchvision and timm read images in the same way.
"""

from __future__ import annotations

import warnings
from typing import BinaryIO, Union

from PIL import Image

from shared.imagenet_image import OPENED


class BadImage(Exception):
    """The file cannot be read as an image; the text is the reason, in a few words."""


def read_rgb(file: Union[str, BinaryIO]) -> Image.Image:
    """The decoded image, mode RGB, of the file at a path or one in memory.

    Raises BadImage for a file that is missing, damaged, cut off, empty or a bomb.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged EXIF data and the like, which nobody reads
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=OPENED) as image:
                image.load()
                return _rgb(image)
    except Exception as error:  # a damaged file makes Pillow's readers raise what they like
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, OSError) and error.errno is not None:
            reason = error.strerror or reason
        raise BadImage(reason.replace(repr(file), "the file")[:120]) from error


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns of the direct way
    return image.convert("RGB")
