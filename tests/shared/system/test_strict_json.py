"""A dataclass from JSON: the types that it names, or a ValueError."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Dict, Optional, Tuple

import pytest

from shared.system.strict_json import entries, typed


@dataclass(frozen=True)
class Inner:
    rate: float
    steps: Tuple[int, ...] = ()


@dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner
    count: int = 1
    share: Tuple[float, float] = (0.0, 1.0)
    ratio: Optional[float] = None
    flag: bool = False
    more: Dict[str, Any] = field(default_factory=dict)


GOOD = {
    "name": "one",
    "inner": {"rate": 1, "steps": [1, 2]},
    "count": 3,
    "share": [0.5, 1],
    "ratio": 0.25,
    "flag": True,
    "more": {"a": [1]},
}


def test_every_field_as_its_dataclass_has_it():
    expected = Outer("one", Inner(1, (1, 2)), 3, (0.5, 1), 0.25, True, {"a": [1]})
    assert typed(Outer, json.loads(json.dumps(GOOD))) == expected


def test_what_is_left_out_has_its_default():
    content = {"name": "one", "inner": {"rate": 0.5, "steps": []}, "share": [0, 1]}
    assert typed(Outer, content) == Outer("one", Inner(0.5), share=(0, 1))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": 1}, "name is 1"),
        ({"name": None}, "name is None"),
        ({"name": "a\nb"}, "name is"),
        ({"name": "a" * 10**6}, "name is"),
        ({"count": 1.0}, "count is 1.0"),
        ({"count": True}, "count is True"),
        ({"count": 10**30}, "count is"),
        ({"count": "3"}, "count is '3'"),
        ({"ratio": float("nan")}, "ratio is nan"),
        ({"ratio": float("inf")}, "ratio is inf"),
        ({"ratio": 10**400}, "ratio is"),
        ({"flag": 1}, "flag is 1"),
        ({"share": [1]}, "share has 1 items"),
        ({"share": "ab"}, "share is 'ab'"),
        ({"share": ["a", "b"]}, "share is 'a'"),
        ({"inner": []}, "a list where fields belong"),
        ({"inner": {"rate": 1}}, "no steps"),
        ({"inner": {"rate": 1, "steps": [[]]}}, "steps is"),
        ({"more": 1}, "more is 1"),
        ({"__class__": "x"}, "unknown field '__class__'"),
    ],
)
def test_what_is_of_another_type_is_refused(changes, words):
    with pytest.raises(ValueError, match=words) as caught:
        typed(Outer, dict(GOOD, **changes))
    assert len(str(caught.value)) < 200


def test_a_field_that_is_needed_is_missed():
    with pytest.raises(ValueError, match="no name"):
        typed(Outer, {"inner": {"rate": 1, "steps": []}, "share": [0, 1]})


def test_entries_of_a_dictionary_pass_over_what_is_not_asked_for():
    content = {"a": {"rate": 1, "steps": [], "else": 2}, "b": 3}
    assert entries(content, lenient=True, a=Inner) == {"a": Inner(1)}
    with pytest.raises(ValueError, match="a: unknown field 'else'"):
        entries(content, lenient=False, a=Inner)
    for content in ({}, {"a": 1}, [], {"a": {"rate": "x", "steps": []}}):
        with pytest.raises(ValueError, match="no a|where fields belong|a: rate"):
            entries(content, lenient=True, a=Inner)
