"""Writes a dictionary as the authors of CIFAR-10 did: Python 2's cPickle, protocol 2, byte for byte."""

from __future__ import annotations

import struct
from typing import Dict, List, Union

import numpy as np

Value = Union[int, str, List[int], List[str], np.ndarray]

_LIST_BATCH = 1000  # cPickle appends so many items at a time


def dumps(values: Dict[str, Value]) -> bytes:
    """Return the pickle of a dictionary of ints, ASCII strings, lists of these and uint8 arrays [rows, cols].

    Raises TypeError for values of other types and struct.error for ints beyond 32 bits.
    """
    writer = _Writer()
    writer.write(b"\x80\x02}")
    writer.remember()
    writer.write(b"(")
    for key, value in values.items():
        writer.value(key)
        writer.value(value)
    writer.write(b"u.")
    return b"".join(writer.parts)


class _Writer:
    def __init__(self) -> None:
        self.parts: List[bytes] = []
        self.remembered = 0

    def write(self, part: bytes) -> None:
        self.parts.append(part)

    def remember(self) -> None:
        self.remembered += 1
        self.write(_one(b"q", b"r", self.remembered))

    def value(self, value: Union[Value, bytes]) -> None:
        if isinstance(value, np.ndarray):
            self.array(value)
        elif isinstance(value, list):
            self.write(b"]")
            self.remember()
            for start in range(0, len(value), _LIST_BATCH):
                self.write(b"(")
                for item in value[start : start + _LIST_BATCH]:
                    self.value(item)
                self.write(b"e")
        elif isinstance(value, str):
            self.write(_string(value.encode("ascii")))
            self.remember()
        elif isinstance(value, int):
            self.write(_integer(value))
        else:
            raise TypeError(f"cannot write a {type(value).__name__}")

    def array(self, array: np.ndarray) -> None:
        if array.dtype != np.uint8 or array.ndim != 2:
            raise TypeError(f"cannot write an array of {array.ndim} dimensions and type {array.dtype}")
        for name in (b"cnumpy.core.multiarray\n_reconstruct\n", b"cnumpy\nndarray\n"):
            self.write(name)
            self.remember()
        self.write(b"K\x00\x85U\x01b\x87R")
        self.remember()
        self.write(b"(K\x01" + _integer(array.shape[0]) + _integer(array.shape[1]) + b"\x86cnumpy\ndtype\n")
        self.remember()
        self.write(b"U\x02u1K\x00K\x01\x87R")
        self.remember()
        self.write(b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89")
        self.write(_string(array.tobytes()))
        self.write(b"tb")


def _one(short: bytes, long: bytes, number: int) -> bytes:
    return short + struct.pack("<B", number) if number < 256 else long + struct.pack("<i", number)


def _string(content: bytes) -> bytes:
    return _one(b"U", b"T", len(content)) + content


def _integer(value: int) -> bytes:
    if 0 <= value < 65536:
        return b"K" + struct.pack("<B", value) if value < 256 else b"M" + struct.pack("<H", value)
    return b"J" + struct.pack("<i", value)
