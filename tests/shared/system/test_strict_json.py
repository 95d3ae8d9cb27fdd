"""JSON has the types that a dataclass or a shape names, or it is a ValueError."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Tuple

import pytest

from shared.system.strict_json import COUNT, NUMBER, Kind, check, typed


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
        ({"inner": []}, "inner is .*, not an object"),
        ({"inner": {"rate": 1}}, "inner.steps is missing"),
        ({"inner": {"rate": 1, "steps": [[]]}}, "inner.steps is"),
        ({"more": 1}, "more is 1"),
        ({"__class__": "x"}, "unknown key __class__"),
    ],
)
def test_what_is_of_another_type_is_refused(changes, words):
    with pytest.raises(ValueError, match=words) as caught:
        typed(Outer, dict(GOOD, **changes))
    assert len(str(caught.value)) < 200


def test_a_field_that_is_needed_is_missed():
    with pytest.raises(ValueError, match="name is missing"):
        typed(Outer, {"inner": {"rate": 1, "steps": []}, "share": [0, 1]})


def test_a_value_is_named_by_its_path():
    with pytest.raises(ValueError, match=r"state\.inner\.rate is 'x', not a finite number"):
        typed(Outer, dict(GOOD, inner={"rate": "x", "steps": []}), "state")


SHAPE = {"a": {"rate": NUMBER, "steps": List[int]}, "b": COUNT, "c": Kind(lambda value: value == 1, "one")}


def test_a_lenient_shape_ignores_other_keys():
    content = {"a": {"rate": 1, "steps": [], "else": 2}, "d": 3}
    check(content, SHAPE, ["a.rate"], lenient=True)
    with pytest.raises(ValueError, match=r"unknown key a\.else$"):
        check({"a": content["a"]}, SHAPE)
    with pytest.raises(ValueError, match=r"unknown key a\.rat, did you mean a\.rate\?"):
        check({"a": {"rat": 1}}, SHAPE)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([], "the content is \\[\\], not an object with a, b, c"),
        ({"a": 1}, "a is 1, not an object with rate, steps"),
        ({"a": {"rate": -1}}, "a.rate is -1, not a finite number of at least 0"),
        ({"a": {"rate": float("nan")}}, "a.rate is nan, not a finite number"),
        ({"a": {"rate": 10**400}}, "a.rate is 1000"),
        ({"a": {"steps": ["x"]}}, "a.steps is 'x', not a whole number"),
        ({"b": True}, "b is True, not a whole number of at least 0"),
        ({"c": 2}, "c is 2, not one"),
        ({}, "a.rate is missing"),
        ({"a": {}}, "a.rate is missing"),
    ],
)
def test_a_shape_names_what_is_wrong(content, words):
    with pytest.raises(ValueError, match=words):
        check(content, SHAPE, ["a.rate"])
