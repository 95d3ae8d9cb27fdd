"""The average over ranks: rounding is within its bound, another average is not, and is called what it is."""

from __future__ import annotations

from typing import Any, List

import numpy as np
import pytest

from shared.port_check.exchange import exchange_checks
from shared.port_check.findings import Check
from shared.port_check.rounding import rounded
from shared.port_check.trace import Trace

NAME = "layer1.conv.weight"


def gradients(ranks: int, dtype: str = "float32") -> List[np.ndarray]:
    """Of each rank, as `dtype` holds them; some nearly cancel in the sum."""
    random = np.random.RandomState(0)
    drawn = random.standard_normal((ranks, 40, 30)) * np.exp(random.uniform(-9, 2, (40, 30)))
    drawn[1, :20] = -drawn[0, :20] * (1 + 1e-3 * random.standard_normal((20, 30)))
    return list(rounded(drawn, dtype).astype(np.float32))


def added_up(parts: List[np.ndarray], dtype: str) -> np.ndarray:
    """Divided and added in one order, every result rounded to `dtype`: what a chain of devices does."""
    total = np.zeros(parts[0].shape)
    for part in parts:
        total = rounded(total + rounded(part.astype(np.float64) / len(parts), dtype), dtype)
    return total.astype(np.float32)


def checked(parts: List[np.ndarray], averaged: Any, dtype: str = "float32") -> Check:
    """The check of rank 0."""
    description = {"weight_dtypes": {} if dtype == "float32" else {NAME: dtype}}
    trace = Trace(description, [], {f"gradient/{NAME}": parts[0], f"averaged/{NAME}": averaged})
    (check,) = exchange_checks(trace, lambda own: parts)
    return check


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("ranks", [2, 3, 8])
def test_rounding_is_within_the_bound_and_near_it(ranks: int, dtype: str) -> None:
    parts = gradients(ranks, dtype)
    check = checked(parts, added_up(parts, dtype), dtype)
    assert check.agrees
    assert check.units > 0.05
    assert (check.stage, check.layer, check.quantity) == ("exchange", "layer1.conv", "weight gradient")


def test_a_wrong_value_of_one_rank_is_out_of_the_bound() -> None:
    parts = gradients(8)
    averaged = added_up(parts, "float32")
    averaged[3, 4] *= 1 + 1e-4
    assert not checked(parts, averaged).agrees


@pytest.mark.parametrize(
    ("averaged", "hint"),
    [
        (lambda parts: parts[0], "it is that of rank 0 alone"),
        (lambda parts: (parts[0] + parts[2]) / 2, "rank 1 is left out"),
        (lambda parts: (parts[0] + parts[1]) / 3, "rank 2 counts as zero"),
        (sum, "all values are 3 times the right ones"),
    ],
)
def test_another_average_is_called_what_it_is(averaged: Any, hint: str) -> None:
    parts = gradients(3)
    check = checked(parts, averaged(parts))
    assert not check.agrees
    assert check.hint == hint


def test_an_overflow_on_one_rank_is_no_fault_of_the_exchange() -> None:
    parts = gradients(2)
    parts[1][0, 0] = np.inf
    assert checked(parts, (parts[0] + parts[1]) / 2).agrees


def test_statistics_are_averaged_in_float32() -> None:
    parts = [np.float32([1, 2]), np.float32([3, 5])]
    trace = Trace({}, [], {"own/bn.running_mean": parts[0], "after/bn.running_mean": np.float32([2, 3.5])})
    (check,) = exchange_checks(trace, lambda own: parts)
    assert check.agrees
    trace.tensors["after/bn.running_mean"] = parts[0]
    (check,) = exchange_checks(trace, lambda own: parts)
    assert (check.agrees, check.quantity, check.hint) == (False, "running_mean", "it is that of rank 0 alone")


def test_what_a_rank_lacks_is_another_network() -> None:
    parts = gradients(2)
    assert checked([parts[0], parts[1][:3]], parts[0]).hint == "another network"
    trace = Trace({}, [], {f"gradient/{NAME}": parts[0]})
    assert not exchange_checks(trace, lambda own: parts)[0].agrees
