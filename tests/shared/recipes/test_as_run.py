"""What the originals' programs did, where their documents say otherwise: the fields that differ, and no others."""

from __future__ import annotations

import dataclasses

import pytest

from shared import recipes
from shared.recipes.as_run import RECIPES, SUFFIX
from shared.recipes.imagenet import elsewhere

# From the reading of the three programs: field by field.
PNASNET = {"normalisation": "none", "label_smoothing": 0.0, "drop_path": 0.0}
CHANGES = {
    "senet154_cosine_as_run": {"loss_scale": "dynamic"},
    "senet154_step_as_run": {"loss_scale": "dynamic"},
    "pnasnet5large_8p_as_run": PNASNET,
    "pnasnet5large_1p_as_run": PNASNET,
    "pnasnet5large_finetune_as_run": PNASNET,
}


@pytest.mark.parametrize("name", RECIPES)
def test_it_is_the_documented_recipe_but_for_what_the_program_did(name):
    documented = dataclasses.asdict(recipes.get(name[: -len(SUFFIX)]))
    run = dataclasses.asdict(recipes.get(name))
    assert {field: value for field, value in run.items() if value != documented[field]} == {
        "name": name,
        **CHANGES[name],
    }


def test_pnasnets_program_had_neither_padding_nor_another_rate_on_a_gpu():
    recipe = recipes.get("pnasnet5large_8p_as_run")
    assert not recipe.zero_pad
    assert elsewhere(recipe) == recipe
    assert recipe.schedule.at(0) == 0.4


@pytest.mark.parametrize("name", ["senet154_cosine_as_run", "senet154_step_as_run"])
def test_senet154s_program_smoothed_labels_otherwise_on_an_npu(name):
    recipe = recipes.get(name)
    assert (recipe.smoothing, elsewhere(recipe).smoothing) == ("others", "uniform")
    assert elsewhere(recipe).override(smoothing="others") == recipe


def test_a_row_is_not_of_a_program_that_could_not_run_it():
    """Period and factor of its step schedule are swapped; of the other documented schedules it has none."""
    assert set(RECIPES).isdisjoint({"senet154_step45_as_run", "senet154_exponential_as_run"})
    assert not any(name.startswith("se_resnet50") for name in RECIPES)
