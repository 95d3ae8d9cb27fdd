"""The documented rows of the ImageNet half, number by number, and what a recipe refuses."""

from __future__ import annotations

import json
import math

import pytest

from shared import recipes
from shared.errors import UsageError
from shared.recipes.imagenet import DEFAULTS, ImageNetRecipe, elsewhere, rate_by_device

SCHEDULES = {
    "senet154_step": lambda epoch: 0.6 * 0.1 ** (epoch // 30),
    "senet154_step45": lambda epoch: 1.0 * 0.45 ** (epoch // 10),
    "senet154_exponential": lambda epoch: 0.6 * 0.93**epoch,
    "senet154_cosine": lambda epoch: 0.3 * (1 + math.cos(epoch * math.pi / 120)),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_four_documented_schedules_of_senet154(name):
    recipe = recipes.get(name)
    assert (recipe.network, recipe.epochs, recipe.batch_size, recipe.devices) == ("senet154", 120, 128, 8)
    assert (recipe.precision, recipe.loss_scale, recipe.label_smoothing) == ("O2", "128", 0.1)
    for epoch in range(120):
        assert recipe.schedule.at(epoch) == pytest.approx(SCHEDULES[name](epoch), rel=1e-12)


def test_the_cosine_of_se_resnet50_with_its_warm_up():
    recipe = recipes.get("se_resnet50_8p")
    rates = [recipe.schedule.at(epoch) for epoch in range(100)]
    assert rates[:6] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    assert rates[99] == pytest.approx(1.64e-4, rel=0.01)
    assert (recipe.weight_decay, recipe.seed, recipe.loss_scale) == (1e-4, 49, "1024")


def test_the_rates_of_pnasnet():
    recipe = recipes.get("pnasnet5large_8p")
    assert recipe.schedule.at(0) == 0.4
    assert recipe.schedule.at(89) == pytest.approx(1.22e-4, rel=0.01)
    assert (recipe.weight_decay, recipe.batch_size, recipe.auxiliary_weight, recipe.image_size) == (4e-5, 32, 0.4, 331)
    assert not recipe.zero_pad
    tuned = recipes.get("pnasnet5large_finetune")
    assert tuned.schedule.at(0) == pytest.approx(1.19e-4, rel=0.01)
    assert (tuned.steps_per_epoch, tuned.loss_scale) == (1000, "32")


@pytest.mark.parametrize("name", ["pnasnet5large_8p", "pnasnet5large_1p", "pnasnet5large_finetune"])
def test_pnasnets_document_has_another_rate_on_a_gpu(name):
    on_npu = recipes.get(name)
    on_gpu = elsewhere(on_npu)
    assert on_gpu.schedule.at(0) / on_npu.schedule.at(0) == pytest.approx(0.32 / 0.4)
    assert on_gpu.override(learning_rate=on_npu.schedule.base) == on_npu
    npu, gpu = on_npu.schedule.base, on_gpu.schedule.base
    for recipe in (on_npu, on_gpu, on_npu.override(learning_rate=1.0)):
        assert rate_by_device(recipe) == f" (documented: {gpu:g} on a GPU, {npu:g} on an NPU)"


def test_other_documents_have_one_rate():
    for name in ("senet154_cosine", "se_resnet50_8p", "pnasnet5large_8p_as_run", "imagenet_sample"):
        recipe = recipes.get(name)
        assert elsewhere(recipe).schedule == recipe.schedule
        assert rate_by_device(recipe) == ""


def test_every_network_has_a_recipe_for_one_device():
    for network, name in DEFAULTS.items():
        assert recipes.get(name).devices == 1
        assert network.startswith(recipes.get(name).network)


@pytest.mark.parametrize("name", recipes.names("torch_imagenet"))
def test_a_recipe_says_its_command_and_survives_json(name):
    recipe = recipes.get(name)
    assert recipe.name == name
    text = recipes.document(name)
    assert "Command:" in text
    assert "python torch_imagenet/main.py" in text
    assert "Documented:" in text or "Expected:" in text
    assert ImageNetRecipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 16}, "at least 32"),
        ({"crop_scale": (0.5, 0.2)}, "crop scale"),
        ({"decayed": "some"}, "give one of all, weights"),
        ({"smoothing": "some"}, "give one of uniform, others"),
        ({"label_smoothing": 1.0}, "label smoothing"),
        ({"drop_path": 1.0}, "drop path"),
        ({"accumulate": 0}, "at least 1"),
        ({"ema_decay": 1.0}, "between 0 and 1"),
        ({"clip_norm": 0.0}, "a norm above 0"),
        ({"randaugment": (2,)}, "randaugment"),
        ({"randaugment": (0, 9)}, "at least one operation"),
        ({"randaugment": (2, 31)}, "a magnitude of 0 to 30"),
        ({"mixup": -0.1}, "alpha"),
        ({"mixup": 5e-324}, "or of 0.01 to 1e6"),
        ({"cutmix": 0.009}, "or of 0.01 to 1e6"),
        ({"cutmix": 1e7}, "or of 0.01 to 1e6"),
        ({"normalisation": "cadene"}, "give one of own, imagenet, inception, none"),
        ({"dropuot": 0.1}, "did you mean 'dropout'"),
    ],
)
def test_a_recipe_refuses_what_makes_no_sense(changes, message):
    with pytest.raises(UsageError, match=message):
        recipes.get("se_resnet50_1p").override(**changes)


def test_a_recipe_that_was_stored_before_normalisation_was_a_field_has_the_networks_own():
    content = recipes.get("pnasnet5large_8p").override(zero_pad=True).to_json()
    del content["normalisation"]
    stored = ImageNetRecipe.from_json(content)
    assert (stored.normalisation, stored.zero_pad) == ("own", True)


def test_a_switch_that_contradicts_a_run_is_named_as_it_was_typed():
    stored = recipes.get("pnasnet5large_8p")
    with pytest.raises(UsageError, match="--zero-pad contradicts the run"):
        stored.resumed({"zero_pad": True})
    with pytest.raises(UsageError, match="--no-zero-pad contradicts"):
        stored.override(zero_pad=True).resumed({"zero_pad": False})
    with pytest.raises(UsageError, match="--normalisation none contradicts the run that is resumed, which has own"):
        stored.resumed({"normalisation": "none"})
