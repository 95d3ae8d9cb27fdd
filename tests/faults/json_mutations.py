"""JSON and the like with one to three values that are something else, as a stranger or a slip in an editor writes."""

from __future__ import annotations

import random
from typing import Any, List, Tuple

STRANGE: Tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    1,
    -1,
    2**31,
    2**63,
    10**30,
    -(10**30),
    0.5,
    -0.5,
    1e308,
    1e-320,
    float("nan"),
    float("inf"),
    "",
    "0",
    "a\nb",
    "\x1b[2J",
    "x" * 100_000,
    "../../..",
    "/etc/passwd",
    "__class__",
    "{0.__class__}",
    "%s%n",
    "\udcff",
    [],
    {},
    [[]],
    [None],
    {"": None},
    {"__class__": "int"},
    [0] * 1000,
)


def changed_value(content: Any, source: random.Random) -> Tuple[Any, str]:
    """The content, which is changed in place, with some values replaced, left out or added, and what was done."""
    done = []
    for _ in range(source.choice((1, 1, 1, 2, 3))):
        places = _places(content)
        if not places:
            return source.choice(STRANGE), "all"
        holder, key = source.choice(places)
        how = source.choice(("set", "set", "set", "near", "drop", "add", "deep"))
        if how == "drop":
            del holder[key]
        elif how == "add" and isinstance(holder, dict):
            holder[source.choice(("__class__", "more", "epochs", ""))] = source.choice(STRANGE)
        elif how == "near":
            holder[key] = _near(holder[key], source)
        elif how == "deep":
            holder[key] = _deep(source.choice((10, 200)), holder[key])
        else:
            holder[key] = source.choice(STRANGE)
        done.append(f"{how} {key}")
    return content, ", ".join(done)


def _places(content: Any) -> List[Tuple[Any, Any]]:
    """Every holder of a value, and the value's key or index in it."""
    found: List[Tuple[Any, Any]] = []
    if isinstance(content, dict):
        found += [(content, key) for key in content]
        for value in content.values():
            found += _places(value)
    elif isinstance(content, list):
        found += [(content, index) for index in range(min(len(content), 20))]
        for value in content[:20]:
            found += _places(value)
    return found


def _near(value: Any, source: random.Random) -> Any:
    """Something of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return source.choice((value + 1, value - 1, -value, value * 1000, value << 40))
    if isinstance(value, float):
        return source.choice((value * 2, -value, value * 1e30, 0.0))
    if isinstance(value, str):
        return source.choice((value[:-1], value + "x", value.upper(), value[::-1]))
    return value


def _deep(levels: int, value: Any) -> Any:
    for _ in range(levels):
        value = [value]
    return value
