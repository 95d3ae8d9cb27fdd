"""Cutout, MixUp and CutMix in the graph, against NumPy image by image, and what reaches the step."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from shared import recipes, rng

tf = pytest.importorskip("tensorflow")
from tf_seresnet.step import augmentation  # noqa: E402  (needs TensorFlow)
from tf_seresnet.step.input_pipeline import Normalisation, TrainingInput  # noqa: E402

tf1 = tf.compat.v1
IMAGES = np.random.RandomState(0).standard_normal((7, 32, 32, 3)).astype(np.float32)


def evaluated(function, *arrays):
    with tf.Graph().as_default(), tf1.Session() as session:
        return session.run(function(*map(tf.constant, arrays)))


def test_a_box_is_cut_out():
    boxes = rng.epoch_cutouts(3, 1, len(IMAGES), 9, 32)
    expected = IMAGES.copy()
    for image, (top, left, bottom, right) in zip(expected, boxes):
        image[top:bottom, left:right] = 0
    np.testing.assert_array_equal(evaluated(augmentation.cut_out, IMAGES, boxes), expected)


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.4, 0.0), (0.0, 1.0), (1.0, 1.0)])
def test_an_image_is_mixed_with_the_one_before_it(mixup, cutmix):
    mixes = rng.epoch_mixes(5, 2, len(IMAGES), 32, mixup, cutmix, mixed=0.7)
    mixed = evaluated(augmentation.mix, IMAGES, mixes.pixels, mixes.box)
    for number, image in enumerate(IMAGES):
        other, share = IMAGES[number - 1], mixes.pixels[number]
        top, left, bottom, right = mixes.box[number]
        expected = share * image + (1 - share) * other
        expected[top:bottom, left:right] = other[top:bottom, left:right]
        np.testing.assert_allclose(mixed[number], expected, rtol=0, atol=1e-6)
    left_alone = mixes.label == 1
    assert 0 < left_alone.sum() < len(IMAGES)
    np.testing.assert_array_equal(mixed[left_alone], IMAGES[left_alone])


def test_an_epoch_is_the_drawn_one_also_from_its_middle():
    random = np.random.RandomState(0)
    images, labels = random.randint(0, 256, (11, 32, 32, 3)).astype(np.uint8), np.arange(11, dtype=np.int32)
    recipe = recipes.get("se_resnet110_modern").override(batch_size=4, depth=11, seed=9, crop_padding=0, flip=False)
    device = SimpleNamespace(static_shapes=False, times_data_wait=False)
    normalise = Normalisation((120.0, 110.0, 100.0), (60.0, 50.0, 40.0))
    with tf.Graph().as_default(), tf1.Session() as session:
        made = TrainingInput(images, labels, normalise, recipe, device)
        (part,) = made.parts
        whole = [session.run(part) for _ in made.start_epoch(session, 3)]
        rest = [session.run(part) for _ in made.start_epoch(session, 3, 1)]
    for one, again in zip(whole[1:], rest):
        for tensor, same in zip(one, again):
            np.testing.assert_array_equal(tensor, same)
    order = rng.epoch_order(9, 3, 11)
    mixes, factors = rng.epoch_mixes(9, 3, 11, 32, cutmix=1.0, mixed=0.5), rng.epoch_depths(9, 3, 11, 3, 0.1)
    np.testing.assert_array_equal(np.concatenate([part.labels for part in whole]), order)
    np.testing.assert_array_equal(np.concatenate([part.share for part in whole]), mixes.label)
    np.testing.assert_array_equal(np.concatenate([part.branch_factors for part in whole]), factors)
    np.testing.assert_array_equal(whole[0].others, order[[3, 0, 1, 2]])
    plain = (images[order[:4]] - np.array(normalise.mean, np.float32)) / np.array(normalise.std, np.float32)
    for image, (top, left, bottom, right) in zip(plain, rng.epoch_cutouts(9, 3, 11, 8, 32)):
        image[top:bottom, left:right] = 0
    for place, (top, left, bottom, right) in enumerate(mixes.box[:4]):
        image = plain[place].copy()
        image[top:bottom, left:right] = plain[place - 1][top:bottom, left:right]
        np.testing.assert_allclose(whole[0].images[place], image, rtol=0, atol=1e-6)
