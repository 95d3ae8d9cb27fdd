"""Crops against torchvision: the evaluation bit for bit, the training's boxes by their distribution and limits."""

from __future__ import annotations

import math
from typing import Tuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from PIL import Image  # noqa: E402

from torch_imagenet.input_pipeline.transforms import Box, EvalTransform, TrainTransform, cut_out, random_resized_crop  # noqa: E402

DEFAULTS = ((0.08, 1.0), (3 / 4, 4 / 3))


def _image(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth noise, so that resizing has something to get wrong."""
    random = np.random.RandomState(seed)
    small = Image.fromarray(random.randint(0, 256, (5, 7, 3)).astype(np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


@given(
    width=st.integers(20, 300),
    height=st.integers(20, 300),
    size=st.sampled_from([32, 33, 64, 97]),
    fraction=st.sampled_from([0.875, 0.9, 1.0, 1.2, 1.3]),
    keep_aspect=st.booleans(),
)
@settings(deadline=None, max_examples=150)
def test_the_evaluation_is_torchvisions_bit_for_bit(torchvision, width, height, size, fraction, keep_aspect):
    """With a fraction above 1 the crop is larger than the image, and there is black around it."""
    transforms = torchvision.transforms
    side = int(size / fraction)
    image = _image(width, height)
    reference = transforms.CenterCrop(size)(transforms.Resize(side if keep_aspect else (side, side))(image))
    assert np.array_equal(EvalTransform(size, fraction, keep_aspect)(image), np.asarray(reference))


@pytest.mark.parametrize(("size", "side"), [(224, 256), (331, 378)])
def test_the_documented_sizes_of_the_evaluation(torchvision, size, side):
    transforms = torchvision.transforms
    image = _image(500, 375)
    reference = transforms.CenterCrop(size)(transforms.Resize(side)(image))
    assert np.array_equal(EvalTransform(size)(image), np.asarray(reference))


@given(width=st.integers(1, 700), height=st.integers(1, 700), seed=st.integers(0, 9999))
def test_a_box_lies_inside_the_image_and_within_the_limits(width, height, seed):
    box = random_resized_crop(np.random.RandomState(seed), width, height, *DEFAULTS)
    assert box.left >= 0
    assert box.top >= 0
    assert box.width >= 1
    assert box.height >= 1
    assert box.left + box.width <= width
    assert box.top + box.height <= height
    if min(width, height) > 60 and 0.5 < width / height < 2:
        assert 0.07 < box.width * box.height / (width * height) <= 1
        assert 0.72 < box.width / box.height < 1.39


def test_boxes_are_distributed_as_torchvisions(torchvision):
    """Mean and deviation of area, aspect and position over 4,000 draws of each."""
    torch.manual_seed(0)
    random = np.random.RandomState(0)
    blank = Image.new("RGB", (500, 375))
    theirs = []
    for _ in range(4000):
        top, left, height, width = torchvision.transforms.RandomResizedCrop.get_params(blank, *map(list, DEFAULTS))
        theirs.append(Box(left, top, width, height))
    ours = [random_resized_crop(random, 500, 375, *DEFAULTS) for _ in range(4000)]
    for measure in (
        lambda box: box.width * box.height / (500 * 375),
        lambda box: math.log(box.width / box.height),
        lambda box: box.left / 500,
        lambda box: box.top / 375,
    ):
        mine, other = np.array([measure(box) for box in ours]), np.array([measure(box) for box in theirs])
        error = math.hypot(mine.std(), other.std()) / math.sqrt(4000)
        assert abs(mine.mean() - other.mean()) < 4 * error
        assert mine.std() == pytest.approx(other.std(), rel=0.08)


class _Draws:
    """In torchvision's place of torch: what it draws comes from a generator like ours, in double precision."""

    log, exp, tensor = staticmethod(np.log), staticmethod(np.exp), staticmethod(np.asarray)

    def __init__(self, seed: int) -> None:
        self._random = np.random.RandomState(seed)

    def empty(self, size: int) -> _Draws:
        return self

    def uniform_(self, low: float, high: float) -> np.float64:
        return np.float64(self._random.uniform(low, high))

    def randint(self, low: int, high: int, size: Tuple[int, ...]) -> np.ndarray:
        return self._random.randint(low, high, size)


@given(
    width=st.integers(1, 900),
    height=st.integers(1, 900),
    seed=st.integers(0, 9999),
    scale=st.sampled_from([(0.08, 1.0), (0.5, 0.6), (1.0, 1.0)]),
    ratio=st.sampled_from([(3 / 4, 4 / 3), (1.0, 1.0)]),
)
@settings(deadline=None, max_examples=300)
def test_from_the_same_draws_a_box_is_torchvisions(torchvision, width, height, seed, scale, ratio):
    """Its ten tries and what it falls back on, for images of any form."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torchvision.transforms.transforms, "torch", _Draws(seed))
        top, left, down, across = torchvision.transforms.RandomResizedCrop.get_params(
            Image.new("L", (width, height)), scale, ratio
        )
    assert random_resized_crop(np.random.RandomState(seed), width, height, scale, ratio) == (left, top, across, down)


@pytest.mark.parametrize(
    ("width", "height", "expected"), [(1000, 20, (27, 20)), (20, 1000, (20, 27)), (30, 30, (30, 30))]
)
def test_an_image_too_long_for_any_box_gives_its_centre(width, height, expected):
    class Unlucky(np.random.RandomState):
        def uniform(self, low, high):
            return high * 1.2 if high <= 1 else high

    box = random_resized_crop(Unlucky(0), width, height, (0.9, 1.0), DEFAULTS[1])
    assert (box.width, box.height) == expected
    assert (box.left, box.top) == ((width - expected[0]) // 2, (height - expected[1]) // 2)


def test_a_crop_is_close_to_torchvisions_crop_and_resize(torchvision):
    """One pass with a box, in place of crop, then resize: at the crop's edge the pixels beyond it count a little."""
    image, box = _image(500, 375), Box(40, 30, 300, 220)
    reference = torchvision.transforms.functional.resized_crop(image, 30, 40, 220, 300, [224, 224], antialias=True)
    difference = np.abs(np.asarray(cut_out(image, box, 224)).astype(int) - np.asarray(reference))
    assert difference.mean() < 0.5
    assert difference[3:-3, 3:-3].max() <= 1


@given(seed=st.integers(0, 99), epoch=st.integers(0, 99), index=st.integers(0, 10**6))
@settings(deadline=None, max_examples=30)
def test_the_pixels_follow_from_seed_epoch_and_image_alone(seed, epoch, index):
    transform = TrainTransform(32)
    image = _image(60, 50)
    first = transform(image, seed, epoch, index)
    np.random.seed(3)
    torch.manual_seed(4)
    assert np.array_equal(first, transform(image, seed, epoch, index))
    assert first.shape == (32, 32, 3)
    assert first.dtype == np.uint8


def test_half_of_the_images_are_mirrored_and_none_where_that_is_off():
    image = _image(40, 40)
    whole = {"crop_scale": (1.0, 1.0), "crop_ratio": (1.0, 1.0)}
    plain = TrainTransform(32, flip=False, **whole)
    reference = plain(image, 0, 0, 0)
    mirrored = [np.array_equal(TrainTransform(32, **whole)(image, 0, 0, i), reference[:, ::-1]) for i in range(400)]
    assert 150 < sum(mirrored) < 250
    assert all(np.array_equal(plain(image, 0, 0, i), reference) for i in range(20))


@pytest.mark.parametrize("settings", [{"randaugment": (2, 9)}, {"trivialaugment": True}])
def test_an_augmentation_is_torchvisions_and_leaves_torchs_generator_alone(torchvision, settings):
    image = _image(40, 40)
    transform = TrainTransform(32, **settings)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    results = [transform(image, 0, 0, index) for index in range(8)]
    assert torch.equal(before, torch.get_rng_state())
    assert all(np.array_equal(result, transform(image, 0, 0, index)) for index, result in enumerate(results))
    assert not all(np.array_equal(result, TrainTransform(32)(image, 0, 0, i)) for i, result in enumerate(results))
