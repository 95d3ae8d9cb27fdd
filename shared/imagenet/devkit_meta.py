"""The wnids of the class numbers in ImageNet's development kit, read from its `meta.mat`.

The file is a MAT-file of level 5 (MathWorks, "MAT-File Format", chapter 1) with one struct array, `synsets`. SciPy is
not used: its reader crashes with a segmentation fault on some damaged files (1.17.1), and nothing else needs it.
"""

from __future__ import annotations

import re
import struct
import zlib
from typing import Any, Dict, Iterator, List, Tuple

from shared.errors import DataError
from shared.system.paths import reading

WNID = re.compile(r"n\d{8}\Z")
_FIELDS = ("ILSVRC2012_ID", "WNID", "num_children")
_MAX_BYTES = 16 * 2**20  # 1,860 structs with some hundred letters each
_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15  # kinds of elements
_STRUCT, _CHAR = 2, 4  # classes of arrays
_NUMBERS = {1: "b", 2: "B", 3: "h", 4: "H", 5: "i", 6: "I", 7: "f", 9: "d", 12: "q", 13: "Q"}
_TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16"}

_Element = Tuple[int, bytes]


def read_meta(path: str) -> Dict[int, str]:
    """Return the wnid of each class number of the devkit, which is not the label that networks are trained with.

    The inner nodes of WordNet, which follow the classes, are left out. Raises DataError for any other file.
    """
    with reading(path, "extract the devkit afresh"), open(path, "rb") as file:
        content = file.read(_MAX_BYTES + 1)
    wnids: Dict[int, str] = {}
    try:
        for number, wnid, children in _rows(content):
            if not WNID.match(wnid) or int(number) != number or int(children) != children:
                raise ValueError("a struct is no class")
            if children == 0 and wnids.setdefault(int(number), wnid) != wnid:
                raise ValueError(f"class {number:g} has two wnids")
        if not wnids:
            raise ValueError("it gives no wnids")
    except (ValueError, TypeError, LookupError, OverflowError, struct.error, zlib.error) as error:
        raise DataError(f"{path} is damaged or not the devkit's ({error}); extract the devkit afresh") from error
    return wnids


def _rows(content: bytes) -> Iterator[List[Any]]:
    """The values of `_FIELDS` of each struct."""
    if len(content) > _MAX_BYTES:
        raise ValueError("it is too large")
    order = {b"IM": "<", b"MI": ">"}.get(content[126:_HEADER])
    if order is None:
        raise ValueError("no MAT-file of level 5")
    for kind, data in _elements(content[_HEADER:], order):
        if kind == _COMPRESSED:
            inflater = zlib.decompressobj()
            kind, data = next(_elements(inflater.decompress(data, _MAX_BYTES), order), (kind, data))
            if not inflater.eof:
                raise ValueError("its compressed part is cut or too large")
        if kind == _MATRIX:
            parts = list(_elements(data, order))
            if len(parts) > 4 and parts[2][1] == b"synsets" and _class(parts, order) == _STRUCT:
                return _structs(parts, order)
    raise ValueError("no struct array synsets")


def _elements(data: bytes, order: str) -> Iterator[_Element]:
    """Yield the consecutive elements of the data as (kind, content)."""
    position = 0
    while position < len(data):
        kind, size = struct.unpack_from(order + "II", data, position)
        begin = position + 8
        if kind >> 16:  # a small data element: the size in the upper 16 bits, the content in the next 4 bytes
            kind, size, begin = kind & 0xFFFF, kind >> 16, position + 4
        content = data[begin : begin + size]
        if len(content) != size or (begin == position + 4 and size > 4):
            raise ValueError("it is cut")
        yield kind, content
        position = max(position + 8, begin + size)
        if kind != _COMPRESSED:
            position += -position % 8


def _class(parts: List[_Element], order: str) -> int:
    return struct.unpack_from(order + "I", parts[0][1])[0] & 0xFF


def _structs(parts: List[_Element], order: str) -> Iterator[List[Any]]:
    """Yield the values of `_FIELDS` of each struct."""
    # parts: flags, dimensions, name, the length of a field name, the field names, the fields of each struct
    names = struct.iter_unpack(f"{struct.unpack(order + 'i', parts[3][1])[0]}s", parts[4][1])
    fields = [name.rstrip(b"\0").decode("ascii") for (name,) in names]
    if any(fields.count(name) != 1 for name in _FIELDS):
        raise ValueError(f"its fields are not {', '.join(_FIELDS)}")
    values = parts[5:]
    for begin in range(0, len(values), len(fields)):
        yield [_value(values[begin + fields.index(name)], order) for name in _FIELDS]


def _value(element: _Element, order: str) -> Any:
    """The text or the number in an array that holds one."""
    parts = list(_elements(element[1], order))
    kind, content = parts[3]
    if _class(parts, order) == _CHAR:
        coding = _TEXTS[kind]
        return content.decode(coding + {"<": "-le", ">": "-be"}[order] if coding == "utf-16" else coding)
    return struct.unpack(order + _NUMBERS[kind], content)[0]
