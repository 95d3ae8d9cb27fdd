"""What was meant by a misspelled word."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.text import closest, nearest

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


OPTIONS = tuple(
    (
        "--addr --data --data-path --drop-path --dropout --ema-decay --epochs --evaluate --help --image-size "
        "--image_size --learning-rate --nnodes --num-devices --period --scheduler --seed --shard-size --test-"
        "batch --wd --wp"
    ).split()
)


@pytest.mark.parametrize(
    "word",
    (
        "--version --wandb --gpu --gpus --arch --model --rank --world-size --lr-decay --crop-pct --hflip --test "
        "--fp16 --cuda --verbose"
    ).split(),
)
def test_an_option_of_another_program_is_no_misspelling(word):
    assert closest(word, OPTIONS) is None


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("--epoch", "--epochs"),
        ("--epcohs", "--epochs"),
        ("--sede", "--seed"),
        ("--lerning_rate", "--learning-rate"),
        ("--datapath", "--data-path"),
        ("--img-size", "--image-size"),
        ("--sched", "--scheduler"),
        ("--eval", "--evaluate"),
        ("--num_device", "--num-devices"),
        ("-epochs", "--epochs"),
        ("--Seed", "--seed"),
    ],
)
def test_what_was_meant_is_found(word, meant):
    assert closest(word, OPTIONS) == meant


def test_nothing_is_near_where_nothing_is_alike():
    assert closest("xyz", MODES) is None
    assert closest("train", []) is None
