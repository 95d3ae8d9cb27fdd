"""The documented rows: their numbers, their docstrings, overriding and storing them."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Optional, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import recipes
from shared.errors import UsageError
from shared.recipes.base import Recipe, contradiction
from shared.recipes.cifar10 import CifarRecipe
from shared.schedules import Schedule

DOCUMENTED = ("se_resnet110_npu", "se_resnet110_gpu")
CIFAR = recipes.names("tf_seresnet")


def refusal(call, *arguments, **named):
    """The one line with which the call is refused."""
    with pytest.raises(UsageError) as caught:
        call(*arguments, **named)
    text = str(caught.value)
    assert ";" in text
    assert "\n" not in text
    return text


# -- the rows --------------------------------------------------------------------------------------------------


def test_the_recipes_that_exist():
    assert recipes.names("tf_seresnet") == (*DOCUMENTED, "se_resnet110_gpu_as_run", "se_resnet110_modern", "sample")
    assert recipes.names() == recipes.names("tf_seresnet") + recipes.names("torch_imagenet")
    assert len(set(recipes.names())) == len(recipes.names())
    for name in recipes.names():
        assert recipes.get(name).name == name


@pytest.mark.parametrize("name", DOCUMENTED)
def test_a_documented_row_has_the_documented_numbers(name):
    recipe = recipes.get(name)
    assert (recipe.depth, recipe.variant, recipe.network) == (110, "port", "se_resnet110")
    assert (recipe.epochs, recipe.schedule.epochs, recipe.batch_size) == (160, 160, 128)
    assert (recipe.momentum, recipe.nesterov, recipe.weight_decay) == (0.9, True, 1e-4)
    assert (recipe.crop_padding, recipe.flip) == (4, True)


def test_the_npu_row_is_the_gpu_row_in_mixed_precision():
    npu, gpu = (recipes.get(name) for name in DOCUMENTED)
    assert (npu.precision, npu.loss_scale) == ("O1", "dynamic")
    assert (gpu.precision, gpu.loss_scale) == ("O0", None)
    assert dataclasses.replace(npu, name=gpu.name, precision="O0", loss_scale=None) == gpu


def test_the_sample_row_never_mirrors_a_digit():
    assert not recipes.get("sample").flip


@pytest.mark.parametrize("name", CIFAR)
def test_a_docstring_states_command_hours_and_result(name):
    text = recipes.document(name)
    assert "Command:" in text
    assert "bash run_" in text
    assert "Hours:" in text
    assert ("Documented:" in text) == (name in DOCUMENTED or name.endswith("_as_run"))
    assert "Documented:" in text or "Expected:" in text


@pytest.mark.parametrize(("name", "result"), list(zip(DOCUMENTED, ("5.45 %, 91 ms", "5.21 %, 141 ms"))))
def test_a_docstring_states_the_documented_result(name, result):
    assert result in recipes.document(name)


def test_an_unknown_recipe_names_the_nearest():
    assert "did you mean 'se_resnet110_gpu'?" in refusal(recipes.get, "seresnet110_gpu")
    assert ", ".join(CIFAR) in refusal(recipes.get, "zzz")


# -- overriding ------------------------------------------------------------------------------------------------


def test_the_learning_rate_scales_the_later_rates():
    schedule = recipes.get("se_resnet110_gpu").override(learning_rate=0.02).schedule
    assert [schedule.at(e) for e in (0, 1, 79, 119)] == pytest.approx([0.02, 0.2, 0.02, 0.002], rel=1e-12)


def test_epochs_reach_the_schedule():
    recipe = recipes.get("sample").override(epochs=30)
    assert (recipe.epochs, recipe.schedule.epochs) == (30, 30)
    assert recipe.schedule.at(29) < recipes.get("sample").schedule.at(11)


def test_the_gpu_scripts_numbers_are_an_override():
    recipe = recipes.get("se_resnet110_gpu").override(batch_size=64, epochs=90, milestones=(1, 49, 69))
    assert recipe.override(name="se_resnet110_gpu_as_run") == recipes.get("se_resnet110_gpu_as_run")
    assert [recipe.schedule.at(e) for e in (0, 1, 49, 69)] == pytest.approx([0.01, 0.1, 0.01, 0.001], rel=1e-12)


def test_the_kind_of_schedule_can_be_replaced():
    recipe = recipes.get("se_resnet110_gpu")
    schedule = recipe.override(scheduler="cosine", learning_rate=0.1, warm_up_epochs=5, minimum=0.01).schedule
    assert (schedule.kind, schedule.base, schedule.warm_up_epochs, schedule.minimum) == ("cosine", 0.1, 5, 0.01)


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Schedule)])
def test_every_word_of_a_schedule_can_be_overridden(field):
    word = {"base": "learning_rate", "kind": "scheduler"}.get(field, field)
    values = {"base": 0.3, "kind": "step", "milestones": (2, 3, 4), "factors": (1.0, 2.0, 3.0), "factor": 0.5}
    values["every_step"] = True
    value = values.get(field, 7)
    changed = recipes.get("se_resnet110_gpu").override(**{word: value})
    expected = dataclasses.replace(recipes.get("se_resnet110_gpu").schedule, **{field: value})
    assert changed.schedule == expected


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("sample", {"epochs": 3, "depth": 20, "learning_rate": 0.2, "seed": 3}, []),  # a record states these itself
        ("sample", {"weight_decay": 0.0}, ["weight-decay 0.0"]),
        ("se_resnet110_modern", {"cutmix": 0.0, "zero_init": False}, ["cutmix 0.0", "no-zero-init"]),
        ("senet154_cosine_as_run", {}, []),
        ("senet154_cosine_as_run", {"smoothing": "uniform"}, []),  # on another device than an NPU
        ("senet154_cosine", {"smoothing": "uniform"}, ["smoothing uniform"]),
    ],
)
def test_what_options_changed_is_said(name, given, said):
    assert recipes.changes(recipes.get(name).override(**given)) == said


def test_a_recipe_says_what_it_has_besides_the_documented_training():
    assert all(recipes.get(name).described() == [] for name in (*DOCUMENTED, "sample", "se_resnet50_8p"))
    assert recipes.get("se_resnet110_modern").described() == [
        *("decayed weights", "label-smoothing 0.1", "cutmix 1.0", "drop-path 0.1", "zero-init", "ema-decay 0.999"),
        *("cutout 8", "mixed 0.5"),
    ]
    assert recipes.get("se_resnet110_modern").plain().described() == ["zero-init", "mixed 0.5"]


def test_a_checkpoint_from_before_a_field_means_what_it_meant():
    content = recipes.get("se_resnet110_gpu").to_json()
    new = "decayed label_smoothing mixup cutmix drop_path zero_init ema_decay cutout mixed".split()
    old = {name: value for name, value in content.items() if name not in new}
    assert len(old) == len(content) - len(new)
    assert CifarRecipe.from_json(json.loads(json.dumps(old))) == recipes.get("se_resnet110_gpu")


def test_a_whole_schedule_can_be_given_and_follows_the_epochs():
    schedule = Schedule("exponential", 0.6, 7, factor=0.93)
    changed = recipes.get("sample").override(schedule=schedule, learning_rate=0.3)
    assert changed.schedule == dataclasses.replace(schedule, base=0.3, epochs=12)


def test_overriding_leaves_the_recipe_as_it_was():
    recipe = recipes.get("sample")
    before = recipe.to_json()
    changed = recipe.override(depth=20, momentum=0.5)
    assert (changed.depth, changed.momentum) == (20, 0.5)
    assert recipe.to_json() == before
    assert recipe.override() == recipe


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(CifarRecipe)])
def test_every_field_can_be_overridden_by_itself(name):
    recipe = recipes.get("se_resnet110_npu")
    assert recipe.override(**{name: getattr(recipe, name)}) == recipe


@pytest.mark.parametrize(
    ("wrong", "nearest"),
    [
        ("learning_rat", "learning_rate"),
        ("bach_size", "batch_size"),
        ("warmup_epochs", "warm_up_epochs"),
        ("weight_decy", "weight_decay"),
    ],
)
def test_an_unknown_field_names_the_nearest(wrong, nearest):
    text = refusal(recipes.get("sample").override, **{wrong: 1})
    assert repr(wrong) in text
    assert f"did you mean {nearest!r}?" in text


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": 0},
        {"batch_size": 0},
        {"momentum": 1.0},
        {"momentum": -0.1},
        {"momentum": math.nan},
        {"weight_decay": -1e-4},
        {"weight_decay": math.nan},
        {"weight_decay": math.inf},
        {"learning_rate": 0.0},
        {"scheduler": "linear"},
        {"milestones": (80,)},
        {"milestones": (80, 20, 3)},
        {"warm_up_epochs": -1},
    ],
)
def test_a_number_without_sense_is_refused(changes):
    refusal(recipes.get("se_resnet110_gpu").override, **changes)


def test_a_recipe_is_frozen():
    recipe = recipes.get("sample")
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.depth = 20  # type: ignore[misc]
    assert recipe == recipes.get("sample")


# -- storing ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CIFAR)
def test_a_recipe_comes_back_from_json(name):
    recipe = recipes.get(name)
    back = CifarRecipe.from_json(json.loads(json.dumps(recipe.to_json())))
    assert back == recipe
    assert hash(back) == hash(recipe)  # tuples, not JSON's lists


@given(
    st.floats(1e-9, 100.0),
    st.floats(0.0, 1.0, exclude_max=True),
    st.integers(1, 500),
    st.integers(0, 2**32 - 1),
    st.sets(st.integers(0, 300), min_size=3, max_size=3),
)
def test_every_overridden_recipe_comes_back_from_json(rate, momentum, epochs, seed, milestones):
    recipe = recipes.get("se_resnet110_npu").override(
        learning_rate=rate, momentum=momentum, epochs=epochs, seed=seed, milestones=tuple(sorted(milestones))
    )
    assert CifarRecipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: content.pop("schedule"),
        lambda content: content.pop("name"),
        lambda content: content.update(schedule=[]),
        lambda content: content.update(schedule=None),
        lambda content: content.update(unheard_of=1),
        lambda content: content.update(batch_size="many"),
        lambda content: content.update(batch_size=-1),
        lambda content: content["schedule"].pop("milestones"),
        lambda content: content["schedule"].update(kind="linear"),
        lambda content: content["schedule"].update(base="fast"),
    ],
)
def test_what_is_no_recipe_of_this_version_is_refused(spoil):
    content = json.loads(json.dumps(recipes.get("sample").to_json()))
    spoil(content)
    refusal(CifarRecipe.from_json, content)


# -- a half's own fields ---------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Other(Recipe):
    """A half's recipe: fields of its own, tuples among them, and a check."""

    crop: Tuple[float, float] = (0.08, 1.0)
    augment: Optional[Tuple[int, ...]] = None
    size: int = 224

    def checked(self):
        super().checked()
        if self.size < 32:
            raise UsageError(f"images of {self.size}; give at least 32")
        return self


OTHER = Other("other", "network", 10, 4, Schedule("cosine", 0.1, 10))


def test_a_half_adds_fields_and_checks():
    changed = OTHER.override(size=64, epochs=3, crop=(0.5, 1.0))
    assert isinstance(changed, Other)
    assert (changed.size, changed.crop, changed.schedule.epochs) == (64, (0.5, 1.0), 3)
    assert "images of 8" in refusal(OTHER.override, size=8)
    assert "0 epochs" in refusal(OTHER.override, epochs=0)
    assert "did you mean 'size'?" in refusal(OTHER.override, sise=64)


@pytest.mark.parametrize("augment", [None, (), (2, 9)])
def test_tuples_come_back_as_tuples(augment):
    recipe = OTHER.override(augment=augment, scheduler="piecewise", milestones=(1,), factors=(0.1,))
    back = Other.from_json(json.loads(json.dumps(recipe.to_json())))
    assert back == recipe
    assert hash(back) == hash(recipe)


def test_what_is_stored_is_checked():
    refusal(Other.from_json, dict(OTHER.to_json(), size=8))
    refusal(CifarRecipe.from_json, OTHER.to_json())


# -- resuming --------------------------------------------------------------------------------------------------


def test_a_resumed_run_may_have_more_epochs_and_may_repeat_itself():
    stored = recipes.get("se_resnet110_gpu")
    assert stored.resumed({}) == stored
    assert stored.resumed({"batch_size": 128, "momentum": 0.9, "learning_rate": 0.01}, stored.name) == stored
    longer = stored.resumed({"epochs": 200})
    assert (longer.epochs, longer.schedule.epochs) == (200, 200)
    assert longer.override(epochs=160) == stored


@pytest.mark.parametrize(
    ("given_", "named"),
    [
        ({"batch_size": 64}, "--batch-size 64 contradicts the run that is resumed, which has 128;"),
        ({"seed": 1}, "--seed 1 contradicts the run that is resumed, which has 0;"),
        ({"learning_rate": 0.3}, "--learning-rate 0.3 contradicts the run that is resumed, which has 0.01, 0.1 from"),
        ({"scheduler": "cosine"}, "--scheduler cosine contradicts"),
        ({"epochs": 200, "warm_up_epochs": 5}, "--warm-up-epochs 5 contradicts"),
    ],
)
def test_nothing_else_of_a_resumed_run_may_change(given_, named):
    assert refusal(recipes.get("se_resnet110_gpu").resumed, given_).startswith(named)


def test_a_run_is_not_resumed_as_another_recipe():
    text = refusal(recipes.get("se_resnet110_gpu").resumed, {}, "sample")
    assert text == str(contradiction("recipe", "sample", "se_resnet110_gpu"))
    assert text.startswith("--recipe sample contradicts the run that is resumed, which has se_resnet110_gpu; leave")


# -- of another length -------------------------------------------------------------------------------------------------


def test_a_shorter_training_has_its_schedule_and_its_regularisation_in_proportion():
    documented, modern = (recipes.get(name) for name in ("se_resnet110_gpu", "se_resnet110_modern"))
    short = documented.of_length(16)
    assert [short.schedule.at(epoch) for epoch in (0, 7, 8, 11, 12, 15)] == pytest.approx(
        [0.1, 0.1, *[0.01] * 2, *[0.001] * 2]
    )
    assert short == documented.override(epochs=16, milestones=(0, 8, 12))
    tenth = modern.of_length(16)
    assert (tenth.mixed, tenth.label_smoothing, tenth.drop_path, tenth.cutout) == (0.05, 0.01, 0.01, 1)
    assert (tenth.ema_decay, tenth.schedule.warm_up_epochs, tenth.schedule.epochs) == (0.99, 0, 16)
    assert (tenth.weight_decay, tenth.cutmix, tenth.schedule.base) == (5e-4, 1.0, 0.1)
    assert modern.of_length(160) == modern


def test_a_longer_training_is_not_regularised_more():
    modern = recipes.get("se_resnet110_modern")
    longer = modern.of_length(320)
    assert longer == modern.override(epochs=320, warm_up_epochs=10, ema_decay=0.9995)


def test_milestones_of_a_very_short_training_stay_apart():
    assert recipes.get("se_resnet110_gpu").of_length(1).schedule.milestones == (0, 1, 2)
    assert recipes.get("se_resnet110_modern").of_length(1).ema_decay == 0.84
    with pytest.raises(UsageError, match="0 epochs; give at least 1"):
        recipes.get("se_resnet110_gpu").of_length(0)


@pytest.mark.parametrize(
    ("name", "changes", "lines"),
    [
        ("se_resnet110_gpu", {"mixed": 0.3}, ["--mixed has no effect without --mixup or --cutmix"]),
        ("se_resnet110_gpu", {"mixed": 0.3, "cutmix": 1.0}, []),
        (
            "senet154_cosine",
            {"smoothing": "others", "label_smoothing": 0.0},
            ["--smoothing has no effect without --label-smoothing"],
        ),
        ("senet154_cosine", {"smoothing": "others", "label_smoothing": 0.1}, []),
        ("senet154_cosine", {"period": 10}, ["--period has no effect on a schedule of the kind cosine; it is of step"]),
    ],
)
def test_an_option_that_changes_nothing_is_named(name, changes, lines):
    assert recipes.get(name).override(**changes).without_effect(changes) == lines
