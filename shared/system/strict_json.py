"""Dataclasses from JSON that anybody may have written: every field has the type that its dataclass names, or it is an
error, so that a text where a number belongs is found here and not somewhere in a training.
"""

from __future__ import annotations

import dataclasses
import typing
from typing import Any, Dict, List, Type, TypeVar, Union

from shared.text import is_name

_TEXT = 4096  # characters; a path is the longest text that is stored
_INT = 2**63
_FLOAT = 1e300

T = TypeVar("T")


def typed(kind: Type[T], content: Any, lenient: bool = False) -> T:
    """The dataclass with these fields; those that are left out have its defaults. Raises ValueError, a line.

    Lists become tuples where the dataclass has these, and none may be left out, as one that was lost would be taken for
    an empty one. Dictionaries become dataclasses. `lenient` passes over fields that it has not.
    """
    if not isinstance(content, dict):
        raise ValueError(f"a {type(content).__name__} where fields belong")
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = [name for name in content if name not in fields]
    if unknown and not lenient:
        raise ValueError(f"unknown field {unknown[0][:60]!r}")
    values = {name: _converted(name, value, hints[name]) for name, value in content.items() if name in fields}
    for name, field in fields.items():
        if name not in values and (_is_required(field) or _is_sequence(hints[name])):
            raise ValueError(f"no {name}")
    return kind(**values)


def _is_required(field: Any) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _is_sequence(hint: Any) -> bool:
    return getattr(hint, "__origin__", None) in (tuple, list)


def _converted(name: str, value: Any, hint: Any) -> Any:
    """The value as the hint has it. Raises ValueError."""
    origin, arguments = getattr(hint, "__origin__", None), list(getattr(hint, "__args__", ()))
    if origin is Union:  # an Optional
        if value is None and type(None) in arguments:
            return None
        return _converted(name, value, arguments[0])
    if dataclasses.is_dataclass(hint):
        return typed(hint, value)  # type: ignore[arg-type]
    if _is_sequence(hint) and isinstance(value, (list, tuple)):
        return _sequence(name, value, origin, arguments)
    if origin is dict and isinstance(value, dict):
        return {key: _converted(f"{name}.{key[:60]}", item, arguments[1]) for key, item in value.items()}
    if hint is not Any and not _is_plain(value, hint):
        raise ValueError(f"{name} is {repr(value)[:60]}")
    return value


def _sequence(name: str, value: Any, origin: Any, kinds: List[Any]) -> Any:
    if origin is list or kinds[-1] is Ellipsis:
        kinds = [kinds[0]] * len(value)
    if len(kinds) != len(value):
        raise ValueError(f"{name} has {len(value)} items in place of {len(kinds)}")
    return origin(_converted(name, item, kind) for item, kind in zip(value, kinds))


def _is_plain(value: Any, hint: Any) -> bool:
    if hint is float:
        return type(value) in (int, float) and -_FLOAT < value < _FLOAT  # and so no NaN
    if hint is int:
        return type(value) is int and -_INT < value < _INT
    if hint is str:
        return isinstance(value, str) and len(value) <= _TEXT and is_name(value)
    return type(value) is hint


def entries(content: Any, lenient: bool, **kinds: Any) -> Dict[str, Any]:
    """These entries of a dictionary, each as the dataclass that is named here; see `typed`. Raises ValueError."""
    if not isinstance(content, dict):
        raise ValueError(f"a {type(content).__name__} where fields belong")
    found = {}
    for name, kind in kinds.items():
        if name not in content:
            raise ValueError(f"no {name}")
        try:
            found[name] = typed(kind, content[name], lenient)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    return found
