"""What was meant by a misspelled word."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.nearest import closest, nearest

MODES = ("train", "evaluate", "benchmark")
WORDS = st.lists(st.text(st.characters(min_codepoint=97, max_codepoint=122), min_size=1), min_size=1, unique=True)


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("trian", "did you mean 'train'?"),
        ("evalute", "did you mean 'evaluate'?"),
        ("xyz", "choose one of train, evaluate, benchmark"),
    ],
)
def test_a_near_word_is_named_and_else_all_of_them(word, text):
    assert nearest(word, MODES) == text
    assert nearest(word, iter(MODES)) == text  # read once


def test_an_empty_choice_can_be_meant():
    assert nearest("", ["", "x"]) == "did you mean ''?"


@given(WORDS)
def test_a_word_is_nearest_to_itself(words):
    for word in words:
        assert closest(word, words) == word


@given(st.text(), WORDS)
def test_without_a_cutoff_something_is_always_the_nearest(word, words):
    assert closest(word, words, cutoff=0.0) in words


def test_nothing_is_near_where_nothing_is_alike():
    assert closest("xyz", MODES) is None
    assert closest("train", []) is None
