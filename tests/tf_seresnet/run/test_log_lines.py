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
    assert advice(LONG / 1000 * 0.999, 1000, RECIPES["port"], STEPS) == []
    assert advice(LONG / 1000, 1000, RECIPES["port"], STEPS) != []
    assert advice(5.0, 10, RECIPES["port"], STEPS) == []


def test_the_first_line_says_how_long():
    lines = advice(4.5, 160 * STEPS - ADVICE_STEP, RECIPES["port"], STEPS)
    assert lines[0] == "note: at 4500 ms a step the rest of recipe se_resnet110_gpu takes 3.3 days here"
    assert "--scheduler cosine" in lines[2]


@pytest.mark.parametrize("variant", sorted(RECIPES))
def test_the_smaller_runs_exist_and_are_smaller(variant):
    recipe = RECIPES[variant]
    text = "\n".join(advice(4.5, 160 * STEPS, recipe, STEPS))
    depths = [int(depth) for depth in re.findall(r"--depth (\d+)", text)]
    assert len(depths) == 2
    for depth in depths:
        assert blocks_per_stage(depth, variant) < blocks_per_stage(recipe.depth, variant)  # raises where there is none
    shorter = recipe.override(epochs=int(re.findall(r"--epochs (\d+)", text)[0]))
    assert shorter.epochs < recipe.epochs


def test_the_guess_is_proportional_to_blocks_and_epochs():
    text = "\n".join(advice(4.5, 160 * STEPS, RECIPES["port"], STEPS))
    # 4.5 s a step: a twelfth of the blocks for 3 epochs is 7.3 minutes, a sixth for 20 epochs 98 minutes.
    assert "--depth 11 --epochs 3 (about 7 minutes); --depth 20 --epochs 20 (about 98 minutes)" in text
