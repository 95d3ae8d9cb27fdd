"""Validation of JSON from untrusted files: every value is of the kind that a dataclass or a shape names.

A shape is a dictionary from key to `Kind`, type hint or another shape. All functions raise ValueError, one line, with
the dotted name of the value; so a text where a number belongs is found here and not in the middle of a training.
"""

from __future__ import annotations

import dataclasses
import json
import re
import typing
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Mapping, NamedTuple, Type, TypeVar, Union

from shared.text import closest, is_name

_TEXT = 4096  # characters; a path is the longest text that is stored
_INT = 2**63
_FLOAT = 1e300
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)?", re.ASCII)

T = TypeVar("T")


class Kind(NamedTuple):
    """Which values are valid, as a predicate and in words."""

    accepts: Callable[[Any], bool]
    description: str


def _number(least: float, most: float, description: str) -> Kind:
    """NaN is in no range, and a bool is no number."""
    return Kind(lambda value: type(value) in (int, float) and least <= value <= most, description)


COUNT = Kind(lambda value: type(value) is int and 0 <= value < _INT, "a whole number of at least 0")
NUMBER = _number(0, _FLOAT, "a finite number of at least 0")
PERCENT = _number(0, 100, "a percentage")
SHARE = _number(0, 1, "a number between 0 and 1")
TEXT = Kind(lambda value: isinstance(value, str) and value != "", "a text")
TIME = Kind(lambda value: isinstance(value, str) and bool(_TIME.fullmatch(value)), "a time in ISO 8601")
_OF_TYPE = {
    int: Kind(lambda value: type(value) is int and -_INT < value < _INT, "a whole number"),
    float: _number(-_FLOAT, _FLOAT, "a finite number"),
    str: Kind(lambda value: isinstance(value, str) and len(value) <= _TEXT and is_name(value), "a printable text"),
}


def json_object(path: Path) -> Dict[str, Any]:
    """The object in a file, unchecked; empty if there is none, if it is damaged, or of a pipe, which would block."""
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def typed(kind: Type[T], content: Any, name: str = "") -> T:
    """The dataclass with the fields in `content`, an object of JSON that is called `name`; lists become tuples.

    A field that is absent has its default, but a list must be there: a lost one would pass for an empty one.
    """
    hints = typing.get_type_hints(kind)
    values = _values(content, {field.name: hints[field.name] for field in dataclasses.fields(kind)}, name)  # type: ignore[arg-type]
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        optional = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        if field.name not in values and not (optional and not _is_sequence(hints[field.name])):
            raise ValueError(f"{_join(name, field.name)} is missing")
    return kind(**values)


def check(content: Any, shape: Mapping[str, Any], required: Iterable[str] = (), lenient: bool = False) -> None:
    """Check an object of JSON against a shape. `required` are dotted names; `lenient` ignores keys not in the shape."""
    _values(content, shape, "", lenient)
    for name in required:
        part, _, key = name.partition(".")
        if part not in content or (key and key not in content[part]):
            raise ValueError(f"{name} is missing")


def _values(content: Any, shape: Mapping[str, Any], name: str, lenient: bool = False) -> Any:
    """The values of an object, as the shape has them."""
    if not isinstance(content, dict):
        raise _invalid(name or "the content", content, f"an object with {', '.join(shape)}")
    for key in content:
        if key not in shape and not lenient:
            near = closest(str(key)[:60], shape)
            hint = f", did you mean {_join(name, near)}?" if near is not None else ""
            raise ValueError(f"unknown key {_join(name, str(key)[:60])}{hint}")
    return {key: _value(content[key], shape[key], _join(name, key), lenient) for key in content if key in shape}


def _value(value: Any, hint: Any, name: str, lenient: bool = False) -> Any:
    """The value as a `Kind`, a type hint or a shape has it."""
    origin, arguments = getattr(hint, "__origin__", None), list(getattr(hint, "__args__", ()))
    if isinstance(hint, dict):
        return _values(value, hint, name, lenient)
    if dataclasses.is_dataclass(hint):
        return typed(hint, value, name)  # type: ignore[arg-type]
    if origin is Union:  # an Optional
        return None if value is None and type(None) in arguments else _value(value, arguments[0], name)
    if _is_sequence(hint) and isinstance(value, (list, tuple)):
        hints = [arguments[0]] * len(value) if origin is list or arguments[-1] is Ellipsis else arguments
        if len(hints) != len(value):
            raise ValueError(f"{name} has {len(value)} items in place of {len(hints)}")
        items = [_value(item, hint, name) for item, hint in zip(value, hints)]
        return items if origin is list else tuple(items)
    if origin is dict and isinstance(value, dict):
        return {key: _value(item, arguments[1], _join(name, key[:60])) for key, item in value.items()}
    kind = hint if isinstance(hint, Kind) else _OF_TYPE.get(hint)
    if hint is not Any and not (kind.accepts(value) if kind else type(value) is hint):
        raise _invalid(name, value, kind.description if kind else f"a {getattr(origin or hint, '__name__', hint)}")
    return value


def _is_sequence(hint: Any) -> bool:
    return getattr(hint, "__origin__", None) in (tuple, list)


def _invalid(name: str, value: Any, description: str) -> ValueError:
    text = " ".join(repr(value).split())
    return ValueError(f"{name} is {text if len(text) <= 60 else text[:57] + '...'}, not {description}")


def _join(name: str, key: str) -> str:
    return f"{name}.{key}" if name else key
