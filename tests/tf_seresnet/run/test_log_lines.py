"""What a user is told when the recipe would take days here."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("tensorflow")

from shared import recipes
from tf_seresnet.network import blocks_per_stage
from tf_seresnet.run.log_lines import ADVICE_STEP, LONG, advice

pytestmark = pytest.mark.once

STEPS = 391
RECIPES = {"port": recipes.get("se_resnet110_gpu"), "paper": recipes.get("se_resnet110_gpu").override(variant="paper")}


def test_a_run_that_is_over_today_gets_no_advice():
    assert advice(LONG * 0.999, 1000, RECIPES["port"]) == []
    assert advice(LONG, 1000, RECIPES["port"]) != []
    assert advice(5000.0, 10, RECIPES["port"]) == []


def test_the_first_line_says_how_long():
    lines = advice(4500.0, 160 * STEPS - ADVICE_STEP, RECIPES["port"])
    assert lines[0] == "note: at 4500 ms a step the rest of recipe se_resnet110_gpu takes 3.3 days here"
    assert "--scheduler cosine" in lines[1]


@pytest.mark.parametrize("variant", sorted(RECIPES))
def test_the_shorter_run_exists_and_is_shorter(variant):
    recipe = RECIPES[variant]
    text = "\n".join(advice(4500.0, 160 * STEPS, recipe))
    (depth,) = [int(depth) for depth in re.findall(r"--depth (\d+)", text)]
    assert blocks_per_stage(depth, variant) < blocks_per_stage(recipe.depth, variant)  # raises where there is none
    assert recipe.override(epochs=int(re.findall(r"--epochs (\d+)", text)[0])).epochs < recipe.epochs
