"""The recipe of a run: which one, and what of it depends on the device."""

from __future__ import annotations

import pytest
import torch

from shared import recipes
from shared.errors import UsageError
from torch_imagenet.devices.device import Device
from torch_imagenet.options import RunConfig
from torch_imagenet.run.recipe import choose_recipe, evaluated_recipe

DEVICES = {kind: Device(kind, torch.device("cpu"), kind) for kind in ("cpu", "cuda", "npu")}


def _chosen(kind, *words):
    return choose_recipe(RunConfig.from_argv(list(words)), DEVICES[kind])


@pytest.mark.parametrize("name", ["pnasnet5large_8p", "pnasnet5large_1p"])
def test_pnasnets_rate_is_that_of_the_device(name):
    rates = {kind: _chosen(kind, "--recipe", name).schedule.base for kind in DEVICES}
    assert rates == {"cpu": 0.32, "cuda": 0.32, "npu": 0.4}
    assert {_chosen(kind, "--recipe", name, "--lr", "0.7").schedule.base for kind in DEVICES} == {0.7}
    scaled = _chosen("cuda", "--recipe", "pnasnet5large_8p", "--scale-learning-rate")
    assert scaled.schedule.base == pytest.approx(0.32 / 8)


def test_senet154s_smoothing_as_run_is_that_of_the_device():
    forms = {kind: _chosen(kind, "--recipe", "senet154_cosine_as_run").smoothing for kind in DEVICES}
    assert forms == {"cpu": "uniform", "cuda": "uniform", "npu": "others"}
    assert _chosen("cuda", "--recipe", "senet154_cosine_as_run", "--smoothing", "others").smoothing == "others"
    assert {_chosen(kind, "--recipe", "senet154_cosine").smoothing for kind in DEVICES} == {"others"}


def test_the_network_is_the_documents_and_options_override_it():
    assert not _chosen("cpu", "--network", "pnasnet5large").zero_pad
    assert _chosen("cpu", "--network", "pnasnet5large", "--zero-pad").zero_pad
    as_run = _chosen("npu", "--recipe", "pnasnet5large_8p_as_run", "--normalisation", "own")
    assert (as_run.normalisation, as_run.zero_pad) == ("own", False)


def _trained(**changes):
    content = recipes.get("pnasnet5large_8p").override(**changes).to_json()
    return {"recipe": content}


def test_a_checkpoint_is_evaluated_as_it_was_trained():
    state = _trained(zero_pad=True)
    del state["recipe"]["normalisation"]  # written before there was this field
    recipe = evaluated_recipe(RunConfig.from_argv([]), state)
    assert (recipe.zero_pad, recipe.normalisation) == (True, "own")
    for given, message in (("--no-zero-pad", "with --zero-pad; leave --no-zero-pad out"), ("--zero-pad", "")):
        config = RunConfig.from_argv(["--checkpoint", "x", given])
        if message:
            with pytest.raises(UsageError, match=message):
                evaluated_recipe(config, state)
        else:
            assert evaluated_recipe(config, state) == recipe
    with pytest.raises(UsageError, match="was trained with --normalisation none; leave --normalisation own out"):
        evaluated_recipe(RunConfig.from_argv(["--normalisation", "own"]), _trained(normalisation="none"))


def test_a_recipe_of_another_network_is_refused_for_weights_too():
    config = RunConfig.from_argv(["--network", "senet154", "--recipe", "pnasnet5large_8p"])
    with pytest.raises(UsageError, match="recipe pnasnet5large_8p is of pnasnet5large; leave --network senet154 out"):
        evaluated_recipe(config, None)
