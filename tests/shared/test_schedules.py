"""Learning rates against every documented row of the four originals, and the properties that hold for all schedules."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import recipes
from shared.errors import UsageError
from shared.schedules import KINDS, Schedule, cosine, exponential, piecewise, step, warm_up

# The originals' rows: SENet154's README formulas; SE-ResNet-50's and PNASNet's code, whose last rates are quoted.
SENET154_STEP = Schedule("step", 0.6, 120, factor=0.1, period=30)
SENET154_045 = Schedule("step", 1.0, 120, factor=0.45, period=10)
SENET154_EXPONENTIAL = Schedule("exponential", 0.6, 120, factor=0.93)
SENET154_COSINE = Schedule("cosine", 0.6, 120)
SE_RESNET50 = Schedule("cosine", 0.6, 100, warm_up_epochs=5)
SE_RESNET50_1P = Schedule("cosine", 0.1, 1, warm_up_epochs=5)
PNASNET = Schedule("cosine", 0.4, 90)
PNASNET_FINETUNE = Schedule("cosine", 0.4, 91)
CIFAR_GPU_SCRIPT = Schedule("piecewise", 0.01, 90, milestones=(1, 49, 69), factors=(10.0, 1.0, 0.1))

DOCUMENTED = {
    # name: (schedule, {zero-based epoch: rate}, relative tolerance of the quoted numbers)
    "senet154 0.6 * 0.1^floor(E/30)": (
        SENET154_STEP,
        {0: 0.6, 1: 0.6, 29: 0.6, 30: 0.06, 59: 0.06, 60: 0.006, 89: 0.006, 90: 0.0006, 119: 0.0006},
        1e-12,
    ),
    "senet154 1 * 0.45^floor(E/10)": (
        SENET154_045,
        {0: 1.0, 9: 1.0, 10: 0.45, 19: 0.45, 20: 0.2025, 30: 0.091125, 110: 1.53228e-4, 119: 1.53228e-4},
        1e-5,
    ),
    "senet154 0.6 * 0.93^E": (SENET154_EXPONENTIAL, {0: 0.6, 1: 0.558, 2: 0.51894, 10: 0.290389, 119: 1.065e-4}, 1e-3),
    "senet154 0.3 * (1 + cos(E pi / 120))": (
        SENET154_COSINE,
        {0: 0.6, 20: 0.5598076, 40: 0.45, 60: 0.3, 80: 0.15, 119: 1.03e-4},
        5e-3,
    ),
    "se_resnet50 warm-up 5, cosine": (SE_RESNET50, {0: 0.1, 1: 0.2, 2: 0.3, 3: 0.4, 4: 0.5, 5: 0.6, 99: 1.64e-4}, 5e-3),
    "se_resnet50 on one device: one epoch, all warm-up": (SE_RESNET50_1P, {0: 0.1 / 6}, 1e-12),
    "pnasnet cosine from 0.4 over 90": (PNASNET, {0: 0.4, 30: 0.3, 45: 0.2, 60: 0.1, 89: 1.22e-4}, 5e-3),
    "pnasnet finetune, epoch 90 of 91": (PNASNET_FINETUNE, {90: 1.19e-4}, 5e-3),
    "cifar GPU script": (
        CIFAR_GPU_SCRIPT,
        # The original counts from 1: 0.01, 0.1 from 2, 0.01 from 50, 0.001 from 70, 90 epochs.
        {1 - 1: 0.01, 2 - 1: 0.1, 49 - 1: 0.1, 50 - 1: 0.01, 69 - 1: 0.01, 70 - 1: 0.001, 90 - 1: 0.001},
        1e-12,
    ),
    **{
        f"cifar {name}": (
            recipes.get(name).schedule,
            # The original counts from 1: 0.01, 0.1 from 2, 0.01 from 80, 0.001 from 120, 160 epochs.
            {1 - 1: 0.01, 2 - 1: 0.1, 79 - 1: 0.1, 80 - 1: 0.01, 119 - 1: 0.01, 120 - 1: 0.001, 160 - 1: 0.001},
            1e-12,
        )
        for name in ("se_resnet110_npu", "se_resnet110_gpu")
    },
}


@pytest.mark.parametrize("row", sorted(DOCUMENTED))
def test_documented_rates(row):
    schedule, rates, tolerance = DOCUMENTED[row]
    assert {epoch: schedule.at(epoch) for epoch in rates} == pytest.approx(rates, rel=tolerance, abs=0)


FORMULAS = {
    # The documents' formulas written out, at every epoch.
    "0.6 * 0.1^floor(E/30)": (SENET154_STEP, lambda e: 0.6 * 0.1 ** (e // 30)),
    "1 * 0.45^floor(E/10)": (SENET154_045, lambda e: 0.45 ** (e // 10)),
    "0.6 * 0.93^E": (SENET154_EXPONENTIAL, lambda e: 0.6 * 0.93**e),
    "0.3 * (1 + cos(E pi / 120))": (SENET154_COSINE, lambda e: 0.3 * (1 + math.cos(e * math.pi / 120))),
    "se_resnet50": (
        SE_RESNET50,
        lambda e: 0.6 * (e + 1) / 6 if e < 5 else 0.5 * 0.6 * (1 + math.cos(math.pi * (e - 5) / 95)),
    ),
    "pnasnet": (PNASNET, lambda e: 0.5 * 0.4 * (1 + math.cos(math.pi * e / 90))),
    "pnasnet finetune": (PNASNET_FINETUNE, lambda e: 0.5 * 0.4 * (1 + math.cos(math.pi * e / 91))),
}


@pytest.mark.parametrize("name", sorted(FORMULAS))
def test_every_epoch_of_the_documented_formulas(name):
    schedule, formula = FORMULAS[name]
    epochs = range(schedule.epochs)
    assert [schedule.at(e) for e in epochs] == pytest.approx([formula(e) for e in epochs], rel=1e-12, abs=0)


def test_the_table_covers_every_kind():
    assert {schedule.kind for schedule, _, _ in DOCUMENTED.values()} == set(KINDS)


# -- properties ------------------------------------------------------------------------------------------------

BASES = st.floats(1e-6, 10.0)
LENGTHS = st.integers(1, 300)


@st.composite
def schedules_of_any_kind(draw):
    """A schedule whose later rates are at most its base."""
    milestones = tuple(sorted(draw(st.sets(st.integers(1, 200), max_size=4))))
    factors = tuple(draw(st.floats(1e-3, 1.0)) for _ in milestones)
    return Schedule(
        draw(st.sampled_from(KINDS)),
        draw(BASES),
        draw(LENGTHS),
        draw(st.integers(0, 10)),
        milestones,
        factors,
        draw(st.integers(1, 50)),
        draw(st.floats(0.5, 1.0)),
        every_step=draw(st.booleans()),
    )


@given(schedules_of_any_kind(), st.floats(0.0, 300.0))
def test_a_rate_lies_between_zero_and_the_base(schedule, epoch):
    assert 0 <= schedule.at(epoch) <= schedule.base * (1 + 1e-12)


@given(schedules_of_any_kind(), st.floats(0.0, 300.0), st.floats(0.0, 300.0))
def test_a_rate_depends_on_the_epoch_alone(schedule, first, second):
    before = schedule.at(first)
    schedule.at(second)
    assert schedule.at(first) == before


@given(schedules_of_any_kind(), st.integers(0, 300), st.floats(0.0, 1.0, exclude_max=True))
def test_a_rate_is_constant_within_an_epoch_unless_every_step_is_asked_for(schedule, epoch, part):
    if not schedule.every_step and epoch + part < epoch + 1:
        assert schedule.at(epoch + part) == schedule.at(epoch)


def test_every_step_gives_the_smooth_curve():
    smooth = Schedule("cosine", 0.6, 120, every_step=True)
    assert smooth.at(60.5) == pytest.approx(0.3 * (1 + math.cos(60.5 * math.pi / 120)), rel=1e-12)
    assert smooth.at(61) < smooth.at(60.5) < smooth.at(60)


@given(BASES, st.integers(2, 300), st.floats(0.0, 0.9))
def test_cosine_falls_strictly_and_ends_at_its_minimum(base, epochs, share):
    minimum = base * share
    rates = [cosine(epoch, base, epochs, minimum) for epoch in range(epochs + 1)]
    assert rates[0] == pytest.approx(base, rel=1e-12)
    assert rates[-1] == pytest.approx(minimum, rel=1e-12)
    assert all(later < earlier for earlier, later in zip(rates, rates[1:]))
    assert cosine(epochs + 10, base, epochs, minimum) == rates[-1]


@given(BASES, LENGTHS, st.integers(1, 20))
def test_warm_up_rises_by_equal_steps_and_arrives_at_the_base(base, epochs, warm):
    schedule = Schedule("cosine", base, epochs + warm, warm)
    rates = [schedule.at(epoch) for epoch in range(warm + 1)]
    rises = [later - earlier for earlier, later in zip([0.0, *rates], rates)]
    assert rises == pytest.approx([base / (warm + 1)] * (warm + 1), rel=1e-9)
    assert rates[-1] == pytest.approx(base, rel=1e-12)


@given(BASES, st.integers(1, 20))
def test_a_run_no_longer_than_its_warm_up_stays_in_it(base, warm):
    assert Schedule("cosine", base, 1, warm).at(0) == warm_up(0, base, warm)
    assert Schedule("cosine", base, warm, warm).at(warm) == base  # and one epoch beyond divides by nothing


def test_only_cosine_counts_from_the_end_of_warm_up():
    step_, cosine_ = (Schedule(kind, 1.0, 20, 5, period=10) for kind in ("step", "cosine"))
    assert [step_.at(9), step_.at(10)] == [1.0, 0.1]
    assert cosine_.at(5) == 1.0
    assert cosine_.at(12.9) == cosine(7, 1.0, 15)


def test_the_pure_functions():
    assert piecewise(0, 2.0, (), ()) == 2.0
    assert [piecewise(e, 2.0, (3, 5), (0.5, 0.25)) for e in (2, 2.999, 3, 4, 5, 99)] == [2, 2, 1, 1, 0.5, 0.5]
    assert [step(e, 1.0, 0.5, 3) for e in (0, 2.9, 3, 6)] == [1, 1, 0.5, 0.25]
    assert exponential(0.5, 1.0, 0.25) == 0.5
    assert cosine(-1, 1.0, 10) == 1.0


# -- refusals and descriptions ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"kind": "cosin"}, "cosin"),
        ({"base": 0.0}, "0.0"),
        ({"base": -0.1}, "-0.1"),
        ({"base": math.nan}, "nan"),
        ({"base": math.inf}, "inf"),
        ({"epochs": 0}, "0 epochs"),
        ({"warm_up_epochs": -1}, "-1 warm-up"),
        ({"period": 0}, "period of 0"),
        ({"milestones": (1, 2)}, "2 milestones"),
        ({"factors": (0.1,)}, "1 factors"),
        ({"milestones": (2,), "factors": (-1.0,)}, "(-1.0,)"),
        ({"milestones": (2,), "factors": (math.nan,)}, "(nan,)"),
        ({"factor": -0.1}, "factor of -0.1"),
        ({"factor": 1.5}, "factor of 1.5"),
        ({"factor": math.nan}, "factor of nan"),
        ({"minimum": -1.0}, "smallest learning rate of -1.0"),
        ({"minimum": math.inf}, "smallest learning rate of inf"),
        ({"milestones": (2, 1), "factors": (1.0, 1.0)}, "(2, 1)"),
        ({"milestones": (2, 2), "factors": (1.0, 1.0)}, "(2, 2)"),
        ({"milestones": (-1, 2), "factors": (1.0, 1.0)}, "before the first epoch"),
    ],
)
def test_an_invalid_value_is_refused_in_one_line(fields, named):
    with pytest.raises(UsageError) as caught:
        Schedule(**dict({"kind": "step", "base": 0.1, "epochs": 10}, **fields))
    text = str(caught.value)
    assert named in text
    assert text.count(";") == 1
    assert "\n" not in text


def test_an_unknown_kind_names_those_that_exist():
    with pytest.raises(UsageError, match="piecewise, step, exponential, cosine"):
        Schedule("linear", 0.1, 10)


def test_a_schedule_is_locked():
    with pytest.raises(AttributeError):
        SENET154_STEP.base = 1.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("schedule", "text"),
    [
        (recipes.get("se_resnet110_npu").schedule, "0.01, 0.1 from epoch 2, 0.01 from epoch 80, 0.001 from epoch 120"),
        (SENET154_STEP, "0.6 x 0.1^floor(E/30)"),
        (SENET154_EXPONENTIAL, "0.6 x 0.93^E"),
        (SE_RESNET50, "cosine from 0.6 to 0, 5 warm-up epochs"),
    ],
)
def test_the_description_is_what_people_say(schedule, text):
    assert schedule.describe() == text


# -- what lies beyond the end ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "remark"),
    [
        (SE_RESNET50_1P, "the warm-up of 5 epochs does not end within the 1 of the run, so the rate stays below 0.1; "),
        (Schedule("cosine", 0.6, 5, warm_up_epochs=5), "the warm-up of 5 epochs does not end"),
        (
            Schedule("piecewise", 0.1, 79, milestones=(1, 79, 119), factors=(10.0, 1.0, 0.1)),
            "the rate's changes at epochs 80, 120 lie beyond the 79 epochs of the run; ",
        ),
        (Schedule("step", 0.6, 30, period=30), "the rate's first drop, at epoch 31, lies beyond the 30 epochs"),
    ],
)
def test_a_schedule_that_ends_after_the_training_says_so(schedule, remark):
    assert [line.startswith(remark) for line in schedule.remarks()] == [True]


@pytest.mark.parametrize(
    "schedule",
    [
        SENET154_STEP,
        SENET154_045,
        SENET154_EXPONENTIAL,
        SENET154_COSINE,
        SE_RESNET50,
        PNASNET,
        CIFAR_GPU_SCRIPT,
        Schedule("cosine", 0.6, 6, warm_up_epochs=5),
        Schedule("step", 0.6, 31, period=30),
        Schedule("step", 0.1, 1),
        Schedule("piecewise", 0.1, 80, milestones=(1, 79), factors=(10.0, 1.0)),
    ],
)
def test_one_that_fits_says_nothing(schedule):
    assert schedule.remarks() == []


@given(st.sampled_from(KINDS), st.integers(1, 40), st.integers(1, 40), st.integers(0, 40))
def test_a_prolonged_run_is_told_of_another_rate_and_only_then(kind, before, after, epoch):
    old, new = Schedule(kind, 0.5, before), Schedule(kind, 0.5, after)
    lines = new.prolonged(old, epoch)
    others = [one for one in range(epoch, after) if old.at(one) != new.at(one)]
    assert bool(lines) == bool(others)
    said = f"epoch {others[0] + 1} has the learning rate {new.at(others[0]):g}" if others else ""
    assert not lines or (kind == "cosine" and said in lines[0])


def test_a_run_that_is_prolonged_in_its_warm_up_is_told_too():
    old, new = (Schedule("cosine", 0.1, epochs, warm_up_epochs=5) for epochs in (12, 40))
    (line,) = new.prolonged(old, 2)
    assert line.startswith("over 40 epochs instead of 12 the rest of the cosine differs: epoch 7 has the learning rate")


@pytest.mark.parametrize(
    ("kind", "unused"),
    [
        ("piecewise", ["period", "factor", "minimum"]),
        ("step", ["milestones", "factors", "minimum"]),
        ("exponential", ["milestones", "factors", "period", "minimum"]),
        ("cosine", ["milestones", "factors", "period", "factor"]),
    ],
)
def test_an_option_of_another_kind_of_schedule_is_named(kind, unused):
    given = ["epochs", "milestones", "factors", "period", "factor", "minimum", "warm_up_epochs"]
    lines = Schedule(kind, 0.1, 9).without_effect(given)
    assert [line.split()[0] for line in lines] == [f"--{name}" for name in unused]
    assert all(f"has no effect on a schedule of the kind {kind}; it is of " in line for line in lines)
    changed = {"milestones": (3,), "factors": (0.5,), "period": 2, "factor": 0.7, "minimum": 0.01}
    changed = {name: changed[name] for name in unused if name not in ("milestones", "factors")}
    plain, other = Schedule(kind, 0.1, 9), Schedule(kind, 0.1, 9, **changed)
    assert [plain.at(epoch) for epoch in range(9)] == [other.at(epoch) for epoch in range(9)]
