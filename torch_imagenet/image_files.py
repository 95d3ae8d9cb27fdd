"""Images as RGB, decoded whole or not at all (`shared.imagenet_image`: in the way in which check-data reads them).

EXIF orientation is not applied and colour profiles are not converted: ImageNet's published accuracies were measured
so, torchvision and timm read images in the same way.
"""

from __future__ import annotations

from typing import BinaryIO, Union

from PIL import Image

from shared.imagenet_image import decode


class BadImage(Exception):
    """The file cannot be read as an image; the text is the reason, in a few words."""


def read_rgb(file: Union[str, BinaryIO]) -> Image.Image:
    """The decoded image, mode RGB, of the file at a path or one in memory.

    Raises BadImage for a file that is missing, damaged, cut off, empty or a bomb, or whose white nobody knows.
    """
    try:
        image: Image.Image = decode(file)
        return image
    except Exception as error:  # a damaged file makes Pillow's readers raise what they like
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, OSError) and error.errno is not None:
            reason = error.strerror or reason
        raise BadImage(reason.replace(repr(file), "the file")[:120]) from error
