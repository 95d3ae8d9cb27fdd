"""The order of an epoch and its crops: the same numbers under every NumPy, and nothing kept between epochs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared import rng
from shared.rng import epoch_crops, epoch_order, grouped_order

SEEDS = st.integers(0, 2**32 - 1)
EPOCHS = st.integers(0, 10_000)
ALPHAS = st.just(0.0) | st.floats(0.01, 2)


# -- golden numbers: a resumed run on another NumPy must see the same images ---------------------------------


def test_golden_orders():
    assert epoch_order(0, 0, 50000)[:8].tolist() == [37996, 40379, 14317, 34437, 29591, 47801, 21110, 8925]
    assert epoch_order(3, 7, 20).tolist() == [5, 10, 18, 7, 1, 13, 3, 0, 6, 19, 11, 2, 9, 16, 17, 14, 12, 4, 15, 8]


def test_golden_crops():
    crops = epoch_crops(0, 0, 50000, 4, True)
    assert crops.top[:8].tolist() == [3, 5, 2, 4, 3, 8, 4, 7]
    assert crops.left[:8].tolist() == [1, 8, 6, 1, 7, 3, 1, 1]
    assert crops.flip[:8].tolist() == [True, True, True, True, True, True, False, False]
    crops = epoch_crops(3, 7, 12, 4, True)
    assert crops.top.tolist() == [0, 6, 3, 6, 4, 1, 5, 7, 4, 0, 2, 4]
    assert crops.left.tolist() == [6, 0, 5, 4, 8, 1, 2, 1, 1, 0, 1, 3]
    assert crops.flip.tolist() == [False] * 6 + [True, True, False, True, True, True]


# -- the order -------------------------------------------------------------------------------------------------


@given(SEEDS, EPOCHS, st.integers(0, 300))
def test_an_order_is_a_permutation(seed, epoch, images):
    order = epoch_order(seed, epoch, images)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(images))


@given(SEEDS, EPOCHS)
def test_an_order_depends_on_seed_and_epoch_alone(seed, epoch):
    np.random.seed(1)
    first = epoch_order(seed, epoch, 100)
    epoch_order(seed, epoch + 1, 100)
    epoch_crops(seed, epoch, 100, 4, True)
    np.random.seed(2)  # neither reads nor moves the global state
    state = np.random.get_state()[1].tolist()
    assert np.array_equal(epoch_order(seed, epoch, 100), first)
    assert np.random.get_state()[1].tolist() == state


@given(SEEDS, EPOCHS)
def test_epochs_and_seeds_have_orders_of_their_own(seed, epoch):
    order = epoch_order(seed, epoch, 100)
    assert not np.array_equal(order, epoch_order(seed, epoch + 1, 100))
    assert not np.array_equal(order, epoch_order((seed + 1) % 2**32, epoch, 100))
    # Seed and epoch are no sum: or runs with neighbouring seeds would be copies, shifted by an epoch.
    assert not np.array_equal(epoch_order(seed, epoch + 1, 100), epoch_order((seed + 1) % 2**32, epoch, 100))


@given(SEEDS, EPOCHS, st.lists(st.integers(0, 12), min_size=1, max_size=200), st.integers(1, 15))
def test_an_order_by_groups_is_a_permutation_that_needs_few_shards_at_a_time(seed, epoch, shards, group):
    shards = np.unique(shards, return_inverse=True)[1].astype(np.int32)
    order = grouped_order(seed, epoch, shards, group)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(len(shards)))
    last = {shard: position for position, shard in enumerate(shards[order].tolist())}
    first = {shard: position for position, shard in reversed(list(enumerate(shards[order].tolist())))}
    for position in range(len(order)):
        assert sum(first[shard] <= position <= last[shard] for shard in last) <= group


@given(SEEDS, EPOCHS, st.lists(st.integers(0, 5), min_size=1, max_size=100))
def test_one_group_is_the_whole_order(seed, epoch, shards):
    shards = np.array(shards, np.int32)
    assert np.array_equal(grouped_order(seed, epoch, shards, 6), epoch_order(seed, epoch, len(shards)))


def test_groups_and_what_is_in_them_change_with_epoch_and_seed():
    shards = np.repeat(np.arange(10, dtype=np.int32), 20)
    seen = [
        frozenset(shards[grouped_order(seed, epoch, shards, 2)[:40]].tolist()) for seed in (0, 1) for epoch in range(5)
    ]
    assert all(len(pair) == 2 for pair in seen)
    assert len(set(seen)) > 5
    whole = grouped_order(0, 0, shards, 2)[:40]
    assert sorted(whole.tolist()) != whole.tolist()
    assert len(set(np.flatnonzero(np.diff(shards[whole])).tolist())) > 5  # the two are mixed


def test_a_golden_order_by_groups():
    order = grouped_order(3, 7, np.repeat(np.arange(5, dtype=np.int32), 4), 2)
    assert order.tolist() == [10, 18, 19, 11, 9, 16, 17, 8, 5, 7, 1, 3, 0, 6, 2, 4, 13, 14, 12, 15]


def test_epochs_are_not_correlated():
    places = np.stack([np.argsort(epoch_order(0, epoch, 1000)) for epoch in range(20)]).astype(float)
    correlation = np.corrcoef(places) - np.eye(20)
    assert np.abs(correlation).max() < 0.15  # 190 pairs of standard deviation 0.032


def test_a_place_holds_every_image_equally_often():
    firsts = [epoch_order(0, epoch, 10)[0] for epoch in range(2000)]
    counts = np.bincount(firsts, minlength=10)
    assert counts.min() > 140  # 200 expected, standard deviation 13
    assert counts.max() < 260


@given(SEEDS, EPOCHS, st.integers(1, 40), st.integers(0, 20))
def test_a_resumed_epoch_has_the_rest_of_the_whole_one(seed, epoch, batch, step):
    whole = epoch_order(seed, epoch, 200)
    batches = [whole[start : start + batch] for start in range(0, 200, batch)]
    resumed = epoch_order(seed, epoch, 200)[step * batch :]
    assert np.array_equal(np.concatenate([*batches[step:], np.zeros(0, np.int64)]), resumed)


# -- the crops -------------------------------------------------------------------------------------------------


@given(SEEDS, EPOCHS, st.integers(0, 50), st.integers(0, 8), st.booleans())
def test_crops_stay_inside_the_padded_image(seed, epoch, images, padding, flip):
    crops = epoch_crops(seed, epoch, images, padding, flip)
    for offsets in (crops.top, crops.left):
        assert offsets.dtype == np.int32
        assert offsets.shape == (images,)
        assert ((offsets >= 0) & (offsets <= 2 * padding)).all()
    assert crops.flip.dtype == bool
    assert crops.flip.shape == (images,)
    assert flip or not crops.flip.any()


def test_every_offset_comes_equally_often_and_half_is_mirrored():
    crops = epoch_crops(0, 0, 9000, 4, True)
    for offsets in (crops.top, crops.left):
        counts = np.bincount(offsets, minlength=9)
        assert len(counts) == 9
        assert (np.abs(counts - 1000) < 150).all()  # standard deviation 30
    assert abs(crops.flip.mean() - 0.5) < 0.03
    together = np.corrcoef([crops.top, crops.left, crops.flip]) - np.eye(3)
    assert np.abs(together).max() < 0.06


def test_switching_flips_off_leaves_the_crops_and_the_order_alone():
    with_flips, without = (epoch_crops(5, 2, 100, 4, flip) for flip in (True, False))
    assert np.array_equal(with_flips.top, without.top)
    assert np.array_equal(with_flips.left, without.left)


@pytest.mark.parametrize("other", [(5, 3), (6, 2)])
def test_epochs_and_seeds_have_crops_of_their_own(other):
    first, second = epoch_crops(5, 2, 100, 4, True), epoch_crops(*other, 100, 4, True)
    assert not any(np.array_equal(a, b) for a, b in zip(first, second))


def test_an_image_draws_the_same_wherever_it_is_read_and_differs_from_all_others():
    draws = {
        (seed, epoch, image): tuple(rng.image_random(seed, epoch, image).randint(0, 2**31, 3))
        for seed in (0, 1)
        for epoch in (0, 1)
        for image in (0, 1, 1_281_166)
    }
    assert len(set(draws.values())) == len(draws)
    assert draws[1, 0, 1] == tuple(rng.image_random(1, 0, 1).randint(0, 2**31, 3))


@given(SEEDS, EPOCHS, st.integers(0, 10**7), st.integers(0, 3))
def test_a_generator_that_is_used_again_draws_what_a_new_one_does(seed, epoch, image, drawn_before):
    reuse = np.random.RandomState(1)
    reuse.normal(size=drawn_before)  # an odd count leaves half a pair behind
    again = rng.image_random(seed, epoch, image, reuse)
    assert again is reuse
    new = rng.image_random(seed, epoch, image)
    assert (again.normal(), again.randint(10**6), again.uniform()) == (new.normal(), new.randint(10**6), new.uniform())


def test_the_draws_of_an_image_are_frozen():
    """NEP 19 keeps RandomState's stream; a change here would change every training run."""
    assert rng.image_random(0, 0, 0).randint(0, 1000, 4).tolist() == [380, 890, 250, 365]
    assert [rng.step_seed(0, 0, step) for step in range(2)] == [730296876, 1946887595]
    assert [rng.batch_seed(0, 0, position) for position in range(2)] == [2009376655, 1718089644]


@given(SEEDS, EPOCHS, st.integers(0, 10**6), st.integers(0, 1023))
def test_what_a_step_draws_is_another_thing_for_each_step_and_rank(seed, epoch, step, rank):
    own = rng.step_seed(seed, epoch, step, rank)
    assert own == rng.step_seed(seed, epoch, step, rank)
    assert own not in (rng.step_seed(seed, epoch, step + 1, rank), rng.step_seed(seed, epoch, step, rank + 1))
    assert own != rng.batch_seed(seed, epoch, step, rank)


# -- cutout, mixing, stochastic depth --------------------------------------------------------------------------


def test_golden_draws_of_the_modern_recipe():
    assert rng.epoch_cutouts(0, 0, 3, 8, 32).tolist() == [[6, 12, 14, 20], [5, 27, 13, 32], [11, 12, 19, 20]]
    mixes = rng.epoch_mixes(0, 0, 3, 32, mixup=0.2, cutmix=1.0, mixed=0.8)
    assert mixes.box.tolist() == [[0, 0, 0, 0], [14, 5, 32, 25], [15, 7, 31, 23]]
    assert mixes.pixels.tolist() == [0.9941256642341614, 1.0, 1.0]
    assert mixes.label.tolist() == [0.9941256642341614, 0.6484375, 0.75]
    assert (rng.epoch_depths(0, 0, 2, 4, 0.8) > 0).tolist() == [[True, True, True, False], [True, True, False, False]]


@given(SEEDS, EPOCHS, st.integers(1, 32))
def test_a_cutout_is_a_square_around_a_pixel(seed, epoch, length):
    top, left, bottom, right = rng.epoch_cutouts(seed, epoch, 40, length, 32).T
    for low, high in ((top, bottom), (left, right)):
        assert (low >= 0).all()
        assert (high <= 32).all()
        assert (high - low >= (length + 1) // 2).all()
        whole = (low > 0) & (high < 32)
        assert (high - low)[whole].tolist() == [length] * int(whole.sum())


@settings(max_examples=25)
@given(SEEDS, EPOCHS, ALPHAS, ALPHAS, st.floats(0.01, 1))
def test_the_label_has_the_share_of_the_pixels(seed, epoch, mixup, cutmix, mixed):
    mixes = rng.epoch_mixes(seed, epoch, 60, 32, mixup, cutmix, mixed)
    area = (mixes.box[:, 2] - mixes.box[:, 0]) * (mixes.box[:, 3] - mixes.box[:, 1])
    assert ((area == 0) | (mixes.pixels == 1)).all()  # one of the two at most
    np.testing.assert_allclose(mixes.label, mixes.pixels * (1 - area / 1024), atol=1e-6)
    if not mixup:
        assert (mixes.pixels == 1).all()
    if not cutmix:
        assert (area == 0).all()


def test_as_many_are_mixed_as_asked_for():
    mixes = rng.epoch_mixes(1, 2, 20000, 32, mixup=1.0, cutmix=1.0, mixed=0.4)
    cut, blended = (mixes.box[:, 2] > 0).mean(), (mixes.pixels < 1).mean()
    assert cut == pytest.approx(0.2, abs=0.02)
    assert blended == pytest.approx(0.2, abs=0.02)
    assert mixes.pixels[mixes.pixels < 1].mean() == pytest.approx(0.5, abs=0.02)


def test_the_deepest_branch_is_dropped_most_and_the_mean_stays():
    factors = rng.epoch_depths(1, 2, 20000, 4, 0.4)
    assert (factors == 0).mean(0) == pytest.approx([0.1, 0.2, 0.3, 0.4], abs=0.02)
    assert factors.mean(0) == pytest.approx([1, 1, 1, 1], abs=0.03)
    assert (rng.epoch_depths(1, 2, 5, 4, 0.0) == 1).all()
