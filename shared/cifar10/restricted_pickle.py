"""Pickled dictionaries of plain values and NumPy arrays, read without running anything that the file names.

A pickle is a program for a stack machine that can import and call whatever it names. `loads` walks through the opcodes
first, and refuses the file unless each is on a list, is used as plain data uses it, and has sizes and memo indices that
fit the file. Only then the standard `Unpickler` reads it, with stand-ins for the few names that NumPy's arrays need.

Protocols 2 to 5 are read as Python 2 and 3 and NumPy 1 and 2 write them, by any Python from 3.7 on. The opcodes are
described in CPython's `pickletools`, the states of dtypes and arrays in NumPy's `__reduce__` and `__setstate__`.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
from typing import Any, Dict, List, Optional

import numpy as np

MAX_OPCODES = 1_000_000  # the official files have 30,098; copies made by Python 3 about 110,000

_STRINGS = "SHORT_BINSTRING BINSTRING SHORT_BINBYTES BINBYTES BINBYTES8 SHORT_BINUNICODE BINUNICODE".split()
_ALLOWED = (
    "PROTO FRAME MARK STOP NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 "
    "EMPTY_LIST APPEND APPENDS EMPTY_DICT SETITEM SETITEMS BINPUT LONG_BINPUT MEMOIZE BINGET LONG_BINGET "
    "GLOBAL STACK_GLOBAL REDUCE BUILD"
).split()
_OPCODES = {ord(opcode.code): opcode for opcode in pickletools.opcodes if opcode.name in _STRINGS + _ALLOWED}
_BYTEARRAY8, _BINBYTES8 = 0x96, 0x8E
_OPCODES[_BYTEARRAY8] = _OPCODES[_BINBYTES8]  # Python 3.7 knows only the latter, whose argument is the same
_FIRST_OPERAND = {  # opcode that changes or calls an object: the opcodes that may have pushed this object
    "APPEND": ("EMPTY_LIST",),
    "APPENDS": ("EMPTY_LIST",),
    "SETITEM": ("EMPTY_DICT",),
    "SETITEMS": ("EMPTY_DICT",),
    "REDUCE": ("GLOBAL", "STACK_GLOBAL"),
    "BUILD": ("REDUCE",),
}
_NUMBERS = ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8")
_TEXT = re.compile(r"U[1-9][0-9]{0,3}\Z")


class Refused(ValueError):
    """The bytes are not a pickle of plain data. The message is one line, without the name of the file."""


def loads(data: bytes) -> Dict[str, Any]:
    """Return the dictionary that one of the CIFAR-10 files holds. Raises Refused for anything else.

    Keys are str, whether Python 2 wrote them as bytes or Python 3 as text. Values are None, bool, int, str, bytes,
    lists, tuples and dictionaries of these, and read-only arrays of integers or text; NumPy's scalars become int and
    str. Time and memory are bounded by the size of the file.
    """
    try:
        values = _Unpickler(_checked(data)).load()
        if not isinstance(values, dict):
            raise Refused("it does not hold a dictionary")
        result: Dict[str, Any] = {}
        for key, value in values.items():
            name = _text(key)
            if name in result:
                raise Refused(f"it holds {_shown(name)} twice")
            result[name] = value.content if isinstance(value, _Array) else value
        return result
    except Refused:
        raise
    except Exception as error:  # whatever the bytes provoke is the fault of the bytes
        raise Refused(f"it ends too early or is damaged ({type(error).__name__})") from error


# -- the opcodes -----------------------------------------------------------------------------------------------


def _checked(data: bytes) -> bytes:
    """Return the pickle, in opcodes that Python 3.7 knows too, if each is harmless; else raise an exception.

    The walk tracks the stack as the names of the opcodes that pushed its items, so that only stand-ins are called, and
    only strings become keys: hash() of deeply nested tuples would overflow the C stack. The sizes of frames are set to
    0, because after a wrong size the `Unpickler` would see other opcodes than this walk.
    """
    if data[:1] != b"\x80":
        raise Refused("it is not a pickle of protocol 2 to 5")
    file, content = io.BytesIO(data), bytearray(data)
    stack: List[str] = []
    memo: Dict[int, str] = {}
    for _ in range(MAX_OPCODES):
        code = file.read(1)[0]
        if code not in _OPCODES:
            raise Refused(f"it uses the pickle instruction 0x{code:02x}, which plain data does not need")
        opcode, position = _OPCODES[code], file.tell()
        name = opcode.name
        argument: Any = opcode.arg.reader(file) if opcode.arg else None
        if name == "STOP":
            if position != len(data):
                raise Refused(f"{len(data) - position} bytes follow its end")
            return bytes(content)
        if name == "PROTO":
            if not 2 <= argument <= 5:
                raise Refused(f"it is a pickle of protocol {argument}, not 2 to 5")
            content[position] = min(argument, 4)
        elif name == "FRAME":
            if argument > len(data) - position - 8:
                raise Refused("it ends too early or is damaged")
            content[position : position + 8] = bytes(8)
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            index = len(memo) if argument is None else argument
            if index >= MAX_OPCODES:
                raise Refused(f"it has the memo index {index}, and fewer opcodes")
            memo[index] = _operands(stack[-1:], [pickletools.anyobject])[0]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif not opcode.stack_before:
            stack.extend([name] * len(opcode.stack_after))
            if code == _BYTEARRAY8:
                content[position - 1] = _BINBYTES8
        else:
            stack.append(_result(name, _operands(stack, opcode.stack_before)))
    raise Refused(f"it has more than {MAX_OPCODES} instructions")


def _operands(stack: List[str], before: List[pickletools.StackObject]) -> List[str]:
    """Pop the operands of an opcode: a fixed number of items, or those above the last mark and some below it."""
    taken = []
    if pickletools.markobject in before:
        while stack[-1] != "MARK":
            taken.append(stack.pop())
        stack.pop()
        before = before[: before.index(pickletools.markobject)]
    taken += [stack.pop() for _ in before]
    if "MARK" in taken:
        raise Refused("it is damaged")
    return taken[::-1]


def _result(name: str, operands: List[str]) -> str:
    """The name under which the result of opcode `name` is tracked. Raises Refused for operands that are not allowed."""
    if name not in _FIRST_OPERAND:
        return name
    if operands[0] not in _FIRST_OPERAND[name]:
        raise Refused(f"it uses {name} on the result of {operands[0]}, which plain data does not need")
    if name in ("SETITEM", "SETITEMS") and not all(key in _STRINGS or key == "REDUCE" for key in operands[1::2]):
        raise Refused("a key of its dictionary is not a name")
    return name if name == "REDUCE" else operands[0]


# -- the names -------------------------------------------------------------------------------------------------

_NDARRAY = "numpy.ndarray"


class _Unpickler(pickle.Unpickler):
    """Resolves the names of arrays, dtypes and encoded bytes to stand-ins, and refuses all others."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data), encoding="bytes")
        self._bytes_left = 4 * len(data)

    def find_class(self, module: str, name: str) -> Any:
        stand_ins = {
            _NDARRAY: _NDARRAY,
            "numpy.dtype": _Dtype,
            "numpy.core.multiarray._reconstruct": self._reconstruct,
            "numpy.core.multiarray.scalar": self._scalar,
            "numpy.core.numeric._frombuffer": self._frombuffer,
            "_codecs.encode": self._encode,
        }
        path = f"{module}.{name}"
        found = stand_ins.get(path.replace("numpy._core.", "numpy.core.", 1))  # the names of NumPy 2 and 1
        if found is None:
            raise Refused(f"it asks for {_shown(path)}, which plain data does not need")
        return found

    def _reconstruct(self, kind: Any, shape: Any, code: Any) -> _Array:
        if kind != _NDARRAY or shape != (0,):
            raise Refused("an array in it is damaged")
        return _Array(self)

    def _frombuffer(self, content: Any, dtype: Any, shape: Any, order: Any) -> _Array:
        array = _Array(self)
        array.__setstate__((1, shape, dtype, _text(order) != "C", content))
        return array

    def _scalar(self, dtype: Any, content: Any) -> Any:
        return self._frombuffer(content, dtype, (1,), "C").content.item()

    def _encode(self, text: Any, codec: Any) -> bytes:
        """Bytes, as Python 3 writes them in protocol 2."""
        if type(text) is not str or _text(codec) != "latin1":
            raise Refused("it encodes text in a way that plain data does not need")
        self.spend(len(text))
        return text.encode("latin-1")

    def spend(self, size: int) -> None:
        """Count the bytes that are copied or checked: a small file could use one long string many times."""
        self._bytes_left -= size
        if self._bytes_left < 0:
            raise Refused("it uses the same bytes in too many places")


class _Dtype:
    """Stands for a `numpy.dtype` of integers or text; `value` is None until its byte order is known."""

    def __init__(self, name: Any, align: Any, copy: Any) -> None:
        self.name = _text(name)
        if (self.name not in _NUMBERS and not _TEXT.match(self.name)) or (align, copy) != (0, 1):
            raise Refused(f"it holds an array of {_shown(self.name)}, not of 'u1' (uint8) or other whole numbers")
        self.value: Optional[np.dtype] = None

    def __setstate__(self, state: Any) -> None:
        is_text, size = self.name[0] == "U", int(self.name[1:])
        orders = ("|",) if self.name in ("i1", "u1") else ("<", ">")
        rest = (None, None, None, 4 * size, 4, 8) if is_text else (None, None, None, -1, -1, 0)
        if len(state) != 8 or _text(state[1]) not in orders or state[2:] != rest:
            raise Refused("the element type of an array in it is damaged or not plain whole numbers")
        self.value = np.dtype(_text(state[1]) + self.name)


class _Array:
    """Stands for a `numpy.ndarray`; `content` is the array, read-only, once its state is known."""

    def __init__(self, unpickler: _Unpickler) -> None:
        self._unpickler = unpickler
        self._content: Optional[np.ndarray] = None

    @property
    def content(self) -> np.ndarray:
        if self._content is None:
            raise Refused("an array in it has no content")
        return self._content

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, is_fortran, content = state
        if self._content is not None:
            raise Refused("it changes an array")
        if not isinstance(dtype, _Dtype) or dtype.value is None:
            raise Refused("an array in it has no element type")
        if is_fortran:
            raise Refused("an array in it is stored column by column, not row by row")
        if type(content) is not bytes or type(shape) is not tuple or not 1 <= len(shape) <= 4:
            raise Refused("an array in it is damaged")
        size = dtype.value.itemsize
        for extent in shape:
            if type(extent) is not int or extent < 1:
                raise Refused("an array in it is empty or damaged")
            size *= extent
        if size != len(content):
            raise Refused(f"an array in it has {len(content)} bytes where its shape {shape} needs {size}")
        self._unpickler.spend(size)
        self._content = np.frombuffer(content, dtype.value).reshape(shape)
        if dtype.value.kind == "U":
            self._content.tolist()  # raises ValueError for what are no characters


def _text(value: Any) -> str:
    """Python 2 wrote bytes where Python 3 writes text."""
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, str):
        return value
    raise Refused("it holds something else where a name belongs")


def _shown(name: str) -> str:
    """A name from the file, fit for a terminal: one line, ASCII, at most 60 characters before escapes."""
    return ascii(name if len(name) <= 60 else name[:57] + "...")
