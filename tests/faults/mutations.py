"""Mutations of valid files, as by disks, failed copies and attackers."""

from __future__ import annotations

import random
import struct
from typing import Callable, Sequence, Tuple

Mutator = Callable[[bytearray, random.Random], bytearray]

_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)
_FORMS = ("<B", "<H", ">H", "<I", ">I", "<Q", ">Q")
_HEADER = 256  # bytes at each end of a file, where most lengths and names are


def mutated(content: bytes, other: bytes, rng: random.Random) -> Tuple[bytes, str]:
    """The content with one to four mutations, and their names. `other` is a file to splice with."""
    changed, names = bytearray(content), []
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        name, mutate = rng.choice(_MUTATORS)
        changed = _spliced(changed, other, rng) if mutate is None else mutate(changed, rng)
        names.append(name)
    return bytes(changed), "+".join(names)


def batch(contents: Sequence[bytes], count: int, rng: random.Random) -> Sequence[Tuple[bytes, str]]:
    """`count` mutated files, each of a random one of the contents."""
    return [mutated(rng.choice(contents), rng.choice(contents), rng) for _ in range(count)]


def _position(content: bytearray, rng: random.Random) -> int:
    """A position in the file, near one of its ends in half of the cases."""
    if not content:
        return 0
    near = min(len(content), _HEADER)
    first, last = rng.randrange(near), len(content) - 1 - rng.randrange(near)
    return rng.choice((first, last, rng.randrange(len(content)), rng.randrange(len(content))))


def _length(rng: random.Random) -> int:
    return rng.choice((1, 2, 3, 4, 8, 16, 61, 256, 1024, 4096))


def _flip_bits(content: bytearray, rng: random.Random) -> bytearray:
    for _ in range(rng.choice((1, 1, 2, 8, 64)) if content else 0):
        content[_position(content, rng)] ^= 1 << rng.randrange(8)
    return content


def _set_bytes(content: bytearray, rng: random.Random) -> bytearray:
    position = _position(content, rng)
    for offset in range(position, min(len(content), position + _length(rng))):
        content[offset] = rng.randrange(256)
    return content


def _truncate(content: bytearray, rng: random.Random) -> bytearray:
    return content[: _position(content, rng)]


def _behead(content: bytearray, rng: random.Random) -> bytearray:
    return content[_length(rng) :]


def _delete(content: bytearray, rng: random.Random) -> bytearray:
    position = _position(content, rng)
    return content[:position] + content[position + _length(rng) :]


def _insert(content: bytearray, rng: random.Random) -> bytearray:
    position = _position(content, rng)
    new = bytes(rng.randrange(256) for _ in range(_length(rng)))
    return content[:position] + new + content[position:]


def _duplicate(content: bytearray, rng: random.Random) -> bytearray:
    position, length = _position(content, rng), _length(rng)
    return content[: position + length] + content[position : position + length] + content[position + length :]


def _move(content: bytearray, rng: random.Random) -> bytearray:
    position, length = _position(content, rng), _length(rng)
    chunk, rest = content[position : position + length], content[:position] + content[position + length :]
    target = _position(rest, rng)
    return rest[:target] + chunk + rest[target:]


def _number(content: bytearray, rng: random.Random) -> bytearray:
    """Overwrite with a number at the limit of its range, as in a length field."""
    form, position = rng.choice(_FORMS), _position(content, rng)
    size = struct.calcsize(form)
    value = rng.choice(_NUMBERS) & (256**size - 1)
    content[position : position + size] = struct.pack(form, value)
    return content


def _zeros(content: bytearray, rng: random.Random) -> bytearray:
    """Overwrite with zeros, as in a block that was never written."""
    position, length = _position(content, rng), _length(rng)
    content[position : position + length] = bytes(len(content[position : position + length]))
    return content


def _append(content: bytearray, rng: random.Random) -> bytearray:
    return content + bytes(rng.randrange(256) for _ in range(_length(rng)))


def _spliced(content: bytearray, other: bytes, rng: random.Random) -> bytearray:
    return content[: _position(content, rng)] + other[_position(bytearray(other), rng) :]


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
