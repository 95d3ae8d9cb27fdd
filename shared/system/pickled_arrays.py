"""NumPy's arrays and scalars out of a pickle, made of their bytes once everything said of them has been checked.

Whole numbers and text alone: a type of objects would be a pickle within the pickle.
"""

from __future__ import annotations

import re
from typing import Any, Optional, Tuple

import numpy as np

_NUMBERS = ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8")
_ORDERS = {"|": "|", "<": "<", ">": ">", b"|": "|", b"<": "<", b">": ">"}  # bytes: as Python 2 writes them
_TEXT = re.compile(r"U[1-9][0-9]{0,3}\Z")


class Refused(ValueError):
    """The bytes are not a pickle of plain data. The message is one line, without the name of the file."""


class Dtype:
    """Stands for a `numpy.dtype` of whole numbers, or of texts; `value` is None until its byte order is known."""

    def __init__(self, name: str, flags: Tuple[Any, ...]) -> None:
        if (name not in _NUMBERS and not _TEXT.match(name)) or flags != (0, 1):
            raise Refused(f"it holds an array of {shown(name)}, not of 'u1' (uint8) or other whole numbers")
        self._name = name
        self.value: Optional[np.dtype] = None

    def complete(self, state: Tuple[Any, ...]) -> None:
        """Take the rest of it, as `numpy.dtype.__setstate__` would."""
        size = 4 * int(self._name[1:])
        rest = (None, None, None, size, 4, 8) if self._name[0] == "U" else (None, None, None, -1, -1, 0)
        order = _ORDERS.get(state[1], "") if len(state) == 8 else ""
        if order not in (("|",) if self._name[1:] == "1" and self._name[0] != "U" else ("<", ">")) or state[2:] != rest:
            raise Refused("the element type of an array in it is damaged or not plain whole numbers")
        self.value = np.dtype(order + self._name)


class Array:
    """Stands for a `numpy.ndarray` until its content has been read."""

    def __init__(self, value: Optional[np.ndarray] = None) -> None:
        self.value = value


def array(shape: object, dtype: object, other_order: object, content: object) -> np.ndarray:
    """The array of these bytes, read-only. Raises Refused where they are not just what the rest says."""
    if not isinstance(dtype, Dtype) or dtype.value is None:
        raise Refused("an array in it has no element type")
    if other_order:
        raise Refused("an array in it is stored column by column, not row by row")
    if not isinstance(content, (bytes, bytearray)) or type(shape) is not tuple or not 1 <= len(shape) <= 4:
        raise Refused("an array in it is damaged")
    size = dtype.value.itemsize
    for extent in shape:
        if type(extent) is not int or extent < 1:
            raise Refused("an array in it is empty or damaged")
        size *= extent
    if size != len(content):
        raise Refused(f"an array in it has {len(content)} bytes where its shape {shape} needs {size}")
    made = np.frombuffer(content, dtype.value).reshape(shape)
    if made.dtype.kind == "U":
        made.tolist()  # raises ValueError of what are no characters
    made.setflags(write=False)
    return made


def shown(name: str) -> str:
    """A name from the file, fit for a terminal: one line, ASCII, not endless."""
    return ascii(name if len(name) <= 60 else name[:57] + "...")
