"""Bytes that were a good file once: what disks, copies and strangers make of it."""

from __future__ import annotations

import random
import struct
from typing import Callable, Sequence, Tuple

Mutator = Callable[[bytearray, random.Random], bytearray]

_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)
_FORMS = ("<B", "<H", ">H", "<I", ">I", "<Q", ">Q")
_HEADER = 256  # bytes at either end of a file in which most of its lengths and names are


def mutated(content: bytes, other: bytes, source: random.Random) -> Tuple[bytes, str]:
    """The content with one to four faults, and the names of these. `other` is a file to splice with."""
    changed, names = bytearray(content), []
    for _ in range(source.choice((1, 1, 1, 2, 4))):
        name, mutator = source.choice(_MUTATORS)
        changed = _spliced(changed, other, source) if mutator is None else mutator(changed, source)
        names.append(name)
    return bytes(changed), "+".join(names)


def batch(contents: Sequence[bytes], count: int, source: random.Random) -> Sequence[Tuple[bytes, str]]:
    """So many mutated files, each of one of the contents."""
    return [mutated(source.choice(contents), source.choice(contents), source) for _ in range(count)]


def _place(content: bytearray, source: random.Random) -> int:
    """A place in the file; in half of the cases one near its ends."""
    if not content:
        return 0
    near = min(len(content), _HEADER)
    first, last = source.randrange(near), len(content) - 1 - source.randrange(near)
    return source.choice((first, last, source.randrange(len(content)), source.randrange(len(content))))


def _length(source: random.Random) -> int:
    return source.choice((1, 2, 3, 4, 8, 16, 61, 256, 1024, 4096))


def _flip_bits(content: bytearray, source: random.Random) -> bytearray:
    for _ in range(source.choice((1, 1, 2, 8, 64)) if content else 0):
        content[_place(content, source)] ^= 1 << source.randrange(8)
    return content


def _set_bytes(content: bytearray, source: random.Random) -> bytearray:
    place = _place(content, source)
    for offset in range(place, min(len(content), place + _length(source))):
        content[offset] = source.randrange(256)
    return content


def _truncate(content: bytearray, source: random.Random) -> bytearray:
    return content[: _place(content, source)]


def _behead(content: bytearray, source: random.Random) -> bytearray:
    return content[_length(source) :]


def _delete(content: bytearray, source: random.Random) -> bytearray:
    place = _place(content, source)
    return content[:place] + content[place + _length(source) :]


def _insert(content: bytearray, source: random.Random) -> bytearray:
    place = _place(content, source)
    new = bytes(source.randrange(256) for _ in range(_length(source)))
    return content[:place] + new + content[place:]


def _duplicate(content: bytearray, source: random.Random) -> bytearray:
    place, length = _place(content, source), _length(source)
    return content[: place + length] + content[place : place + length] + content[place + length :]


def _move(content: bytearray, source: random.Random) -> bytearray:
    place, length = _place(content, source), _length(source)
    chunk, rest = content[place : place + length], content[:place] + content[place + length :]
    target = _place(rest, source)
    return rest[:target] + chunk + rest[target:]


def _number(content: bytearray, source: random.Random) -> bytearray:
    """A length field, or what is taken for one, at the edge of its range."""
    form, place = source.choice(_FORMS), _place(content, source)
    size = struct.calcsize(form)
    value = source.choice(_NUMBERS) & (256**size - 1)
    content[place : place + size] = struct.pack(form, value)
    return content


def _zeros(content: bytearray, source: random.Random) -> bytearray:
    """As a file system leaves a block that was never written."""
    place, length = _place(content, source), _length(source)
    content[place : place + length] = bytes(len(content[place : place + length]))
    return content


def _append(content: bytearray, source: random.Random) -> bytearray:
    return content + bytes(source.randrange(256) for _ in range(_length(source)))


def _spliced(content: bytearray, other: bytes, source: random.Random) -> bytearray:
    return content[: _place(content, source)] + other[_place(bytearray(other), source) :]


_MUTATORS = (
    ("bits", _flip_bits),
    ("bytes", _set_bytes),
    ("cut", _truncate),
    ("beheaded", _behead),
    ("deleted", _delete),
    ("inserted", _insert),
    ("doubled", _duplicate),
    ("moved", _move),
    ("number", _number),
    ("zeros", _zeros),
    ("longer", _append),
    ("spliced", None),
)
