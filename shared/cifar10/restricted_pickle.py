"""The dialect of pickle that the CIFAR-10 files are written in, read without a pickle machine.

A pickle is a program, and the usual unpickler runs whatever it names. This reader knows the few instructions
with which Python 2 and 3 write a dictionary of numbers, strings, lists and NumPy's arrays and scalars (protocols 2
to 5). It imports nothing and calls nothing that the file names: the six names such files contain stand for inert
tokens of ours, and an array is made by `np.frombuffer` once its type, shape, order and byte count have been
checked (`pickled_arrays`). Work and memory are bounded by the size of the file, so a small file cannot ask for
absurd amounts.

The instructions are described in CPython's `pickletools.py`.
"""

from __future__ import annotations

import enum
import struct
from typing import Any, Callable, Dict, List, Tuple

from shared.system.pickled_arrays import Array, Dtype, Refused, array, shown

MAX_INSTRUCTIONS = 1_000_000  # the official files have 30,098; copies made by Python 3 about 110,000


class _Token(enum.Enum):
    """What a name in the file turns into."""

    RECONSTRUCT = "an empty array, filled afterwards"
    FROM_BUFFER = "an array around bytes (protocol 5)"
    NDARRAY = "the type of an array"
    DTYPE = "the type of an array's elements"
    SCALAR = "one element of an array"
    ENCODE = "bytes, as Python 3 writes them in protocol 2"


_NAMES = {
    ("numpy.core.multiarray", "_reconstruct"): _Token.RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _Token.RECONSTRUCT,
    ("numpy.core.numeric", "_frombuffer"): _Token.FROM_BUFFER,
    ("numpy._core.numeric", "_frombuffer"): _Token.FROM_BUFFER,
    ("numpy.core.multiarray", "scalar"): _Token.SCALAR,
    ("numpy._core.multiarray", "scalar"): _Token.SCALAR,
    ("numpy", "ndarray"): _Token.NDARRAY,
    ("numpy", "dtype"): _Token.DTYPE,
    ("_codecs", "encode"): _Token.ENCODE,
}


def loads(data: bytes) -> Dict[str, Any]:
    """Read the dictionary that one of the CIFAR-10 files holds.

    Keys come back as str, whether Python 2 wrote them as bytes or Python 3 as text. Values are None, bool,
    int, str, bytes, lists, tuples and dictionaries of these, and read-only arrays of whole numbers or text; NumPy's
    scalars come back as int and str. Else raises Refused.
    """
    try:
        return _plain_dictionary(_Reader(data).run())
    except Refused:
        raise
    except (IndexError, struct.error):
        raise Refused("it ends too early or is damaged") from None
    except Exception as error:  # whatever the bytes provoke is the fault of the bytes
        raise Refused(f"it is damaged ({type(error).__name__})") from error


def _plain_dictionary(value: object) -> Dict[str, Any]:
    if not isinstance(value, dict):
        raise Refused("it does not hold a dictionary")
    result: Dict[str, Any] = {}
    for key, item in value.items():
        name = _text(key)
        if name in result:
            raise Refused(f"it holds {shown(name)} twice")
        if isinstance(item, Array):
            if item.value is None:
                raise Refused(f"the array {shown(name)} has no content")
            item = item.value
        result[name] = item
    return result


def _text(value: object) -> str:
    """Python 2 wrote bytes where Python 3 writes text."""
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, str):
        return value
    raise Refused("it holds something else where a name belongs")


class _Reader:
    """A stack, its marks, a memo and a position in the bytes."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0
        self.stack: List[Any] = []
        self.marks: List[int] = []
        self.memo: Dict[int, Any] = {}
        self.encodable = 2 * len(data)  # one long text could be encoded again and again

    def run(self) -> object:
        if self.data[:1] != b"\x80":
            raise Refused("it is not a pickle of protocol 2 to 5")
        instructions, data = _INSTRUCTIONS, self.data
        for _ in range(MAX_INSTRUCTIONS):
            code = data[self.position]
            self.position += 1
            if code == _STOP:
                if self.position != len(data):
                    raise Refused(f"{len(data) - self.position} bytes follow its end")
                return self.stack.pop()
            instruction = instructions.get(code)
            if instruction is None:
                raise Refused(f"it uses the pickle instruction 0x{code:02x}, which plain data does not need")
            instruction(self)
        raise Refused(f"it has more than {MAX_INSTRUCTIONS} instructions")

    def take(self, count: int) -> bytes:
        end = self.position + count
        if count < 0 or end > len(self.data):
            raise Refused("it ends too early or is damaged")
        taken = self.data[self.position : end]
        self.position = end
        return taken

    def number(self, form: str) -> int:
        (value,) = struct.unpack(form, self.take(struct.calcsize(form)))
        return int(value)

    def line(self) -> str:
        end = self.data.find(b"\n", self.position, self.position + 256)
        if end < 0:
            raise Refused("it is damaged: a name without an end")
        return self.take(end + 1 - self.position)[:-1].decode("latin-1")

    def since_mark(self) -> List[Any]:
        mark = self.marks.pop()
        items = self.stack[mark:]
        del self.stack[mark:]
        return items

    # -- the instructions -------------------------------------------------------------------------

    def protocol(self) -> None:
        version = self.take(1)[0]
        if not 2 <= version <= 5:
            raise Refused(f"it is a pickle of protocol {version}, not 2 to 5")

    def frame(self) -> None:
        if self.number("<Q") > len(self.data) - self.position:
            raise Refused("it ends too early or is damaged")

    def mark(self) -> None:
        self.marks.append(len(self.stack))

    def byte(self) -> None:  # the labels: half of all instructions
        self.stack.append(self.data[self.position])
        self.position += 1

    def tuple_of_mark(self) -> None:
        self.stack.append(tuple(self.since_mark()))

    def tuple_of(self, count: int) -> None:
        items = tuple(self.stack[-count:])
        if len(items) != count:
            raise Refused("it is damaged")
        self.stack[-count:] = [items]

    def extend(self, items: List[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise Refused("it appends to something that is not a list")
        self.stack[-1].extend(items)

    def set_items(self, items: List[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not dict or len(items) % 2:
            raise Refused("it sets entries of something that is not a dictionary")
        for key, value in zip(items[::2], items[1::2]):
            if not isinstance(key, (bytes, str)):
                raise Refused("a key of its dictionary is not a name")
            target[key] = value

    def append_one(self) -> None:
        item = self.stack.pop()
        self.extend([item])

    def set_one(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.set_items([key, value])

    def put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def get(self, index: int) -> None:
        if index not in self.memo:
            raise Refused("it is damaged: it refers to something that it has not defined")
        self.stack.append(self.memo[index])

    def look_up(self, module: str, name: str) -> None:
        token = _NAMES.get((module, name))
        if token is None:
            raise Refused(f"it asks for {shown(module + '.' + name)}, which plain data does not need")
        self.stack.append(token)

    def global_line(self) -> None:
        module = self.line()
        self.look_up(module, self.line())

    def global_of_stack(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.look_up(_text(module), _text(name))

    def reduce(self) -> None:
        """A call, if this were the usual machine; here one of four tokens becomes what it stands for."""
        arguments, token = self.stack.pop(), self.stack.pop()
        if not isinstance(token, _Token) or type(arguments) is not tuple:
            raise Refused("it calls something that is not a name")
        self.stack.append(self.made(token, arguments))

    def made(self, token: _Token, arguments: Tuple[Any, ...]) -> Any:
        if token is _Token.ENCODE:
            text, codec = arguments
            self.encodable -= len(text)
            if _text(codec) != "latin1" or type(text) is not str or self.encodable < 0:
                raise Refused("it encodes text in a way that plain data does not need")
            return text.encode("latin-1")
        if token is _Token.RECONSTRUCT:
            if arguments[:2] != (_Token.NDARRAY, (0,)) or len(arguments) != 3:
                raise Refused("an array in it is damaged")
            return Array()
        if token is _Token.DTYPE:
            return Dtype(_text(arguments[0]), arguments[1:])
        if token is _Token.SCALAR:
            dtype, content = arguments
            return array((1,), dtype, False, content).item()
        if token is _Token.FROM_BUFFER:
            content, dtype, shape, order = arguments
            return Array(array(shape, dtype, _text(order) != "C", content))
        raise Refused("it calls something that plain data does not need")

    def build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if type(state) is not tuple:
            raise Refused("it changes an object in a way that plain data does not need")
        if isinstance(target, Dtype):
            target.complete(state)
        elif isinstance(target, Array) and target.value is None:
            _, shape, dtype, is_fortran, content = state
            target.value = array(shape, dtype, is_fortran, content)
        else:
            raise Refused("it changes an object in a way that plain data does not need")


def _pushing(form: str) -> Callable[[_Reader], None]:
    return lambda reader: reader.stack.append(reader.number(form))


def _pushing_bytes(form: str) -> Callable[[_Reader], None]:
    return lambda reader: reader.stack.append(reader.take(reader.number(form)))


def _pushing_text(form: str) -> Callable[[_Reader], None]:
    return lambda reader: reader.stack.append(reader.take(reader.number(form)).decode("utf-8", "surrogatepass"))


_STOP = ord(".")
_INSTRUCTIONS: Dict[int, Callable[[_Reader], None]] = {
    0x80: _Reader.protocol,
    0x95: _Reader.frame,
    ord("("): _Reader.mark,
    ord("N"): lambda reader: reader.stack.append(None),
    0x88: lambda reader: reader.stack.append(True),
    0x89: lambda reader: reader.stack.append(False),
    ord("K"): _Reader.byte,
    ord("M"): _pushing("<H"),
    ord("J"): _pushing("<i"),
    ord("U"): _pushing_bytes("<B"),
    ord("T"): _pushing_bytes("<i"),
    ord("C"): _pushing_bytes("<B"),
    ord("B"): _pushing_bytes("<I"),
    0x96: _pushing_bytes("<Q"),
    0x8C: _pushing_text("<B"),
    ord("X"): _pushing_text("<I"),
    ord(")"): lambda reader: reader.stack.append(()),
    0x85: lambda reader: reader.tuple_of(1),
    0x86: lambda reader: reader.tuple_of(2),
    0x87: lambda reader: reader.tuple_of(3),
    ord("t"): _Reader.tuple_of_mark,
    ord("]"): lambda reader: reader.stack.append([]),
    ord("a"): _Reader.append_one,
    ord("e"): lambda reader: reader.extend(reader.since_mark()),
    ord("}"): lambda reader: reader.stack.append({}),
    ord("s"): _Reader.set_one,
    ord("u"): lambda reader: reader.set_items(reader.since_mark()),
    ord("q"): lambda reader: reader.put(reader.take(1)[0]),
    ord("r"): lambda reader: reader.put(reader.number("<I")),
    0x94: lambda reader: reader.put(len(reader.memo)),
    ord("h"): lambda reader: reader.get(reader.take(1)[0]),
    ord("j"): lambda reader: reader.get(reader.number("<I")),
    ord("c"): _Reader.global_line,
    0x93: _Reader.global_of_stack,
    ord("R"): _Reader.reduce,
    ord("b"): _Reader.build,
}
