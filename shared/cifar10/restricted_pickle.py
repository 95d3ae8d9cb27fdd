"""Pickled dictionaries of plain values and NumPy arrays, read without running anything that the file names.

A pickle is a program for a stack machine that can import and call whatever it names. The machine here has only the
opcodes that plain data needs, and stand-ins for the few names that NumPy's arrays need.

Protocols 2 to 5 are read as Python 2 and 3 and NumPy 1 and 2 write them, by any Python from 3.7 on. The opcodes are
described in CPython's `pickletools`, the states of dtypes and arrays in NumPy's `__reduce__` and `__setstate__`.
"""

from __future__ import annotations

import io
import pickle
import re
from typing import Any, Callable, Dict, List

import numpy as np

MAX_OPCODES = 1_000_000  # the official files have 30,098; copies made by Python 3 about 110,000

_DTYPE = re.compile(r"[iu][1248]\Z|U[1-9][0-9]{0,3}\Z")  # whole numbers and text
_Unpickler: Any = pickle._Unpickler  # the one in Python, whose opcodes can be chosen


class Refused(ValueError):
    """The bytes are not a pickle of plain data. The message is one line, without the name of the file."""


def loads(data: bytes) -> Dict[str, Any]:
    """Return the dictionary that one of the CIFAR-10 files holds. Raises Refused for anything else.

    Keys are str. Values are None, bool, int, str, bytes, lists, tuples and dictionaries of these, and read-only arrays
    of integers or text; NumPy's scalars become int and str. Time and memory are bounded by the size of the file.
    """
    if not b"\x80\x02" <= data[:2] <= b"\x80\x05":
        raise Refused("it is not a pickle of protocol 2 to 5")
    file = io.BytesIO(data)
    try:
        values = _Machine(file, 4 * len(data)).load()
        if file.tell() != len(data):
            raise Refused(f"{len(data) - file.tell()} bytes follow its end")
        if type(values) is not dict:
            raise Refused("it does not hold a dictionary")
        result = {_text(key): value.content if isinstance(value, _Array) else value for key, value in values.items()}
    except Refused:
        raise
    except Exception as error:  # whatever the bytes provoke is the fault of the bytes
        raise Refused(f"it ends too early or is damaged ({type(error).__name__})") from error
    if len(result) != len(values):
        raise Refused("it holds a name twice")
    return result


class _Machine(_Unpickler):
    """Python's own reader, which calls only what `find_class` returns, with the opcodes in `_OPCODES` alone."""

    def __init__(self, file: io.BytesIO, bytes_left: int) -> None:
        super().__init__(file, encoding="bytes")
        self._bytes_left = bytes_left
        self.dispatch = _Dispatch()

    def find_class(self, module: str, name: str) -> Any:
        stand_ins = {
            "numpy.ndarray": None,  # only an argument of the next one
            "numpy.core.multiarray._reconstruct": lambda *arguments: _Array(self),
            "numpy.dtype": _Dtype,
            "numpy.core.multiarray.scalar": self._scalar,
            "numpy.core.numeric._frombuffer": self._frombuffer,
            "_codecs.encode": self._encode,
        }
        path = f"{module}.{name}".replace("numpy._core.", "numpy.core.", 1)  # the names of NumPy 2 and 1
        if path not in stand_ins:
            raise Refused(f"it asks for {_shown(path)}, which plain data does not need")
        return stand_ins[path]

    def set_items(self, items: List[Any]) -> None:
        """Only strings become keys: hash() of deeply nested tuples would overflow the C stack."""
        if type(self.stack[-1]) is not dict or len(items) % 2 or {type(key) for key in items[::2]} - {str, bytes}:
            raise Refused("a key of its dictionary is not a name")
        self.stack[-1].update(zip(items[::2], items[1::2]))

    def build(self, state: Any) -> None:
        if not isinstance(self.stack[-1], (_Array, _Dtype)):
            raise Refused("it changes what is no array")
        self.stack[-1].set_state(*state)

    def spend(self, size: int) -> None:
        """Count the bytes that are copied or checked: a small file could use one long string many times."""
        self._bytes_left -= size
        if self._bytes_left < 0:
            raise Refused("it uses the same bytes in too many places")

    def _frombuffer(self, content: Any, dtype: Any, shape: Any, order: Any) -> _Array:
        array = _Array(self)
        array.set_state(1, shape, dtype, _text(order) != "C", content)
        return array

    def _scalar(self, dtype: Any, content: Any) -> Any:
        return self._frombuffer(content, dtype, (1,), "C").content.item()

    def _encode(self, text: str, codec: Any) -> bytes:
        """Bytes, as Python 3 writes them in protocol 2."""
        if type(text) is not str or _text(codec) != "latin1":
            raise Refused("it encodes text in a way that plain data does not need")
        self.spend(len(text))
        return text.encode("latin-1")


_ALLOWED = (
    "MARK STOP NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 SHORT_BINSTRING BINSTRING SHORT_BINBYTES BINBYTES "
    "BINBYTES8 SHORT_BINUNICODE BINUNICODE EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST APPEND APPENDS EMPTY_DICT "
    "BINPUT LONG_BINPUT MEMOIZE BINGET LONG_BINGET GLOBAL STACK_GLOBAL REDUCE"
).split()
_OPCODES: Dict[int, Callable[[Any], Any]] = {
    **{code: _Unpickler.dispatch[code] for code in (getattr(pickle, name)[0] for name in _ALLOWED)},
    pickle.PROTO[0]: lambda machine: machine.read(1),
    pickle.FRAME[0]: lambda machine: machine.read(8),  # a wrong size would hide opcodes
    pickle.SETITEM[0]: lambda machine: machine.set_items([machine.stack.pop(-2), machine.stack.pop()]),
    pickle.SETITEMS[0]: lambda machine: machine.set_items(machine.pop_mark()),
    pickle.BUILD[0]: lambda machine: machine.build(machine.stack.pop()),
    0x96: _Unpickler.dispatch[pickle.BINBYTES8[0]],  # BYTEARRAY8, which Python 3.7 does not know
}


class _Dispatch:
    """The functions of the opcodes, for at most MAX_OPCODES of them."""

    _left = MAX_OPCODES

    def __getitem__(self, code: int) -> Callable[[Any], Any]:
        self._left -= 1
        if self._left < 0:
            raise Refused(f"it has more than {MAX_OPCODES} instructions")
        if code not in _OPCODES:
            raise Refused(f"it uses the pickle instruction 0x{code:02x}, which plain data does not need")
        return _OPCODES[code]


class _Dtype:
    """Stands for a `numpy.dtype` of integers or text, whose `value` is there once its byte order is known."""

    value: np.dtype

    def __init__(self, name: Any, align: Any, copy: Any) -> None:
        self.name = _text(name)
        if not _DTYPE.match(self.name) or (align, copy) != (0, 1):
            raise Refused(f"it holds an array of {_shown(self.name)}, not of 'u1' (uint8) or other whole numbers")

    def set_state(self, version: Any, order: Any, *rest: Any) -> None:
        orders = ("|",) if self.name in ("i1", "u1") else ("<", ">")
        sizes = (4 * int(self.name[1:]), 4, 8) if self.name[0] == "U" else (-1, -1, 0)
        if _text(order) not in orders or rest != (None, None, None, *sizes):
            raise Refused("the element type of an array in it is damaged or not plain whole numbers")
        self.value = np.dtype(_text(order) + self.name)


class _Array:
    """Stands for a `numpy.ndarray`, whose `content`, read-only, is there once its state is known."""

    content: np.ndarray

    def __init__(self, machine: _Machine) -> None:
        self._spend = machine.spend

    def set_state(self, version: Any, shape: Any, dtype: _Dtype, is_fortran: Any, content: Any) -> None:
        if is_fortran:
            raise Refused("an array in it is stored column by column, not row by row")
        if type(content) is not bytes or not all(type(extent) is int and extent > 0 for extent in shape):
            raise Refused("an array in it is empty or damaged")
        self._spend(len(content))
        self.content = np.frombuffer(content, dtype.value).reshape(shape)
        if self.content.dtype.kind == "U":
            self.content.tolist()  # raises ValueError for what are no characters


def _text(value: Any) -> str:
    """Python 2 wrote bytes where Python 3 writes text."""
    if not isinstance(value, (bytes, str)):
        raise Refused("it holds something else where a name belongs")
    return value if isinstance(value, str) else value.decode("latin-1")


def _shown(name: str) -> str:
    """A name from the file, fit for a terminal: one line, ASCII, at most 60 characters before escapes."""
    return ascii(name if len(name) <= 60 else name[:57] + "...")
