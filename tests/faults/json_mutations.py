"""JSON values with one to three mutations, as by an attacker or a slip in an editor."""

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


def mutate_values(content: Any, rng: random.Random) -> Tuple[Any, str]:
    """Mutates `content` in place: replaces, removes or adds values. Returns it with a description."""
    mutations = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = _places(content)
        if not places:
            return rng.choice(STRANGE), "all"
        holder, key = rng.choice(places)
        how = rng.choice(("set", "set", "set", "near", "drop", "add", "deep"))
        if how == "drop":
            del holder[key]
        elif how == "add" and isinstance(holder, dict):
            holder[rng.choice(("__class__", "more", "epochs", ""))] = rng.choice(STRANGE)
        elif how == "near":
            holder[key] = _near(holder[key], rng)
        elif how == "deep":
            holder[key] = _deep(rng.choice((10, 200)), holder[key])
        else:
            holder[key] = rng.choice(STRANGE)
        mutations.append(f"{how} {key}")
    return content, ", ".join(mutations)


def _places(content: Any) -> List[Tuple[Any, Any]]:
    """(container, key or index) of every value."""
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


def _near(value: Any, rng: random.Random) -> Any:
    """Another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return rng.choice((value + 1, value - 1, -value, value * 1000, value << 40))
    if isinstance(value, float):
        return rng.choice((value * 2, -value, value * 1e30, 0.0))
    if isinstance(value, str):
        return rng.choice((value[:-1], value + "x", value.upper(), value[::-1]))
    return value


def _deep(levels: int, value: Any) -> Any:
    for _ in range(levels):
        value = [value]
    return value
