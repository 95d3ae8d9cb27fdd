"""The pipeline in the graph against a plain numpy one, image by image."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from shared import recipes, rng

tf = pytest.importorskip("tensorflow")
from tf_seresnet.step.input_pipeline import Normalisation, TrainingInput  # noqa: E402  (needs TensorFlow)

tf1 = tf.compat.v1

COUNT, BATCH, SEED = 22, 5, 11
IMAGES = np.random.RandomState(0).randint(0, 256, (COUNT, 32, 32, 3)).astype(np.uint8)
LABELS = np.arange(COUNT, dtype=np.int32)  # the label is the image's number
STATISTICS = Normalisation((120.0, 110.0, 100.0), (60.0, 50.0, 40.0))
RECIPE = recipes.get("se_resnet110_gpu").override(batch_size=BATCH, seed=SEED)
PADDED = {"crop_padding": 4, "flip": True}
PLAIN = {"crop_padding": 0, "flip": False}


def numpy_epoch(epoch, augmentation, images=IMAGES, labels=LABELS, seed=SEED):
    """(image float32, label) of every place of the epoch, written as one would on paper."""
    order = rng.epoch_order(seed, epoch, len(images))
    border = augmentation["crop_padding"]
    crops = rng.epoch_crops(seed, epoch, len(images), border, augmentation["flip"])
    height, width = images.shape[1:3]
    for place, number in enumerate(order):
        image = images[number].astype(np.float32)
        image = (image - np.array(STATISTICS.mean, np.float32)) / np.array(STATISTICS.std, np.float32)
        canvas = np.zeros((height + 2 * border, width + 2 * border, 3), np.float32)
        canvas[border : border + height, border : border + width] = image
        top, left = crops.top[place], crops.left[place]
        crop = canvas[top : top + height, left : left + width]
        yield (crop[:, ::-1] if crops.flip[place] else crop), labels[number]


class Pipeline:
    """A `TrainingInput` in a graph of its own with an open session."""

    def __init__(
        self, augmentation=PADDED, images=IMAGES, batch=BATCH, static_shapes=False, times_data_wait=True, workers=2
    ):
        self.graph = tf.Graph()
        recipe = RECIPE.override(batch_size=batch, **augmentation)
        device = SimpleNamespace(static_shapes=static_shapes, times_data_wait=times_data_wait)
        with self.graph.as_default():
            self.input = TrainingInput(images, LABELS, STATISTICS, recipe, device, workers=workers)
            self.session = tf1.Session(config=tf1.ConfigProto(device_count={"GPU": 0}))

    def batches(self, epoch, first_step=0):
        """All batches of the epoch from this step on."""
        self.input.start_epoch(self.session, epoch, first_step)
        made = []
        while True:
            try:
                made.append(self.session.run((self.input.images, self.input.labels)))
            except tf.errors.OutOfRangeError:
                return made


@pytest.fixture(scope="module")
def pipeline():
    made = Pipeline()
    yield made
    made.session.close()


def assert_same(batches, others):
    assert len(batches) == len(others)
    for (images, labels), (other_images, other_labels) in zip(batches, others):
        assert np.array_equal(images, other_images)
        assert np.array_equal(labels, other_labels)


# -- against numpy ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("epoch", [0, 1, 7])
def test_an_epoch_is_numpys(pipeline, epoch):
    batches = pipeline.batches(epoch)
    images = np.concatenate([images for images, _ in batches])
    labels = np.concatenate([labels for _, labels in batches])
    expected = list(numpy_epoch(epoch, PADDED))
    assert labels.tolist() == [label for _, label in expected]
    for place, (image, _) in enumerate(expected):
        np.testing.assert_allclose(images[place], image, rtol=1e-6, atol=1e-6, err_msg=f"place {place}")


@pytest.mark.parametrize(
    ("augmentation", "size"),
    [
        ({"crop_padding": 2, "flip": False}, (32, 32)),
        ({"crop_padding": 0, "flip": True}, (32, 32)),
        ({"crop_padding": 3, "flip": True}, (9, 14)),
    ],
)
def test_other_augmentations_and_sizes_are_numpys(augmentation, size):
    images = IMAGES[:, : size[0], : size[1]]
    made = Pipeline(augmentation, images)
    got = np.concatenate([batch for batch, _ in made.batches(3)])
    made.session.close()
    expected = np.stack([image for image, _ in numpy_epoch(3, augmentation, images)])
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6)


def test_the_comparison_sees_a_flip_and_a_shift(pipeline):
    """A check of the checks: an image differs from its mirror and from its neighbouring crop."""
    images = np.concatenate([images for images, _ in pipeline.batches(0)])
    assert not np.allclose(images, images[:, :, ::-1], atol=1e-3)
    assert not np.allclose(images[:, 1:], images[:, :-1], atol=1e-3)
    crops = rng.epoch_crops(SEED, 0, COUNT, 4, True)
    assert crops.flip.any()
    assert not crops.flip.all()


def test_without_crop_and_flip_images_are_normalised_and_nothing_else():
    made = Pipeline(PLAIN)
    for images, labels in made.batches(0):
        mean, std = (np.array(values, np.float32) for values in (STATISTICS.mean, STATISTICS.std))
        np.testing.assert_allclose(images, (IMAGES[labels].astype(np.float32) - mean) / std, rtol=1e-6, atol=1e-6)
    made.session.close()


# -- batches ---------------------------------------------------------------------------------------------------


def test_the_last_batch_is_short(pipeline):
    batches = pipeline.batches(0)
    assert [len(labels) for _, labels in batches] == [5, 5, 5, 5, 2]
    assert pipeline.input.steps_per_epoch == 5
    assert pipeline.input.images.shape.as_list() == [None, 32, 32, 3]
    for images, labels in batches:
        assert (images.dtype, labels.dtype) == (np.float32, np.int32)
        assert images.shape == (len(labels), 32, 32, 3)


def test_static_shapes_drop_the_last_batch_and_nothing_else(pipeline):
    made = Pipeline(static_shapes=True)
    assert made.input.steps_per_epoch == 4
    assert made.input.labels.shape.as_list() == [BATCH]
    assert_same(made.batches(2), pipeline.batches(2)[:4])
    made.session.close()


@pytest.mark.parametrize(
    ("batch", "static", "steps"), [(22, True, 1), (22, False, 1), (23, True, 0), (23, False, 1), (1, True, 22)]
)
def test_steps_per_epoch_are_the_batches_that_come(batch, static, steps):
    made = Pipeline(batch=batch, static_shapes=static)
    assert made.input.steps_per_epoch == steps == len(made.batches(0))
    made.session.close()


@pytest.mark.parametrize("epoch", range(4))
def test_every_image_comes_exactly_once_an_epoch(pipeline, epoch):
    labels = np.concatenate([labels for _, labels in pipeline.batches(epoch)])
    assert sorted(labels.tolist()) == list(range(COUNT))


def test_epochs_differ(pipeline):
    first, second = (np.concatenate([labels for _, labels in pipeline.batches(epoch)]) for epoch in (0, 1))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("workers", [1, 4])
def test_workers_do_not_change_the_order(pipeline, workers):
    made = Pipeline(workers=workers)
    assert_same(made.batches(1), pipeline.batches(1))
    made.session.close()


# -- resuming --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", range(6))
def test_an_epoch_started_in_the_middle_has_the_rest_of_the_whole_one(pipeline, first):
    whole = pipeline.batches(4)
    assert_same(pipeline.batches(4, first), whole[first:])


def test_an_epoch_can_be_left_in_the_middle(pipeline):
    whole = pipeline.batches(5)
    pipeline.input.start_epoch(pipeline.session, 9)
    pipeline.session.run(pipeline.input.labels)
    assert_same(pipeline.batches(5), whole)


def test_a_second_pipeline_has_the_same_batches(pipeline):
    made = Pipeline()
    assert_same(made.batches(6, 2), pipeline.batches(6)[2:])
    made.session.close()


def test_the_training_set_is_left_as_it_was(pipeline):
    before = IMAGES.copy(), LABELS.copy()
    pipeline.batches(0)
    assert np.array_equal(IMAGES, before[0])
    assert np.array_equal(LABELS, before[1])


def test_the_graph_holds_no_random_operator_and_no_copy_of_the_images(pipeline):
    definition = pipeline.graph.as_graph_def()
    operations = {node.op for node in definition.node}
    operations |= {node.op for function in definition.library.function for node in function.node_def}
    assert not any("Random" in name or "Shuffle" in name for name in operations)
    assert definition.ByteSize() < IMAGES.nbytes


# -- waiting for data ------------------------------------------------------------------------------------------


def test_the_wait_for_data_is_measured_in_seconds(pipeline):
    pipeline.input.start_epoch(pipeline.session, 0)
    for _ in range(pipeline.input.steps_per_epoch):
        wait, _ = pipeline.session.run((pipeline.input.data_wait, pipeline.input.labels))
        assert wait.dtype == np.float64
        assert wait.shape == ()
        assert 0 <= wait < 60


def test_the_wait_for_data_can_be_switched_off():
    made = Pipeline(times_data_wait=False)
    assert made.input.data_wait is None
    assert not any(operation.type == "Timestamp" for operation in made.graph.get_operations())
    assert len(made.batches(0)) == 5
    made.session.close()


# -- normalisation ---------------------------------------------------------------------------------------------


def test_normalisation_of_a_training_set():
    normalise = Normalisation.from_images(IMAGES)
    pixels = IMAGES.reshape(-1, 3).astype(np.float64)
    assert normalise.mean == pytest.approx(tuple(pixels.mean(0)), rel=1e-12)
    assert normalise.std == pytest.approx(tuple(pixels.std(0)), rel=1e-12)
    assert all(type(value) is float for value in (*normalise.mean, *normalise.std))  # JSON takes nothing else
    with tf.Graph().as_default(), tf1.Session() as session:
        images = session.run(normalise(tf.constant(IMAGES)))
    assert images.dtype == np.float32
    assert images.reshape(-1, 3).mean(0) == pytest.approx([0, 0, 0], abs=1e-4)
    assert images.reshape(-1, 3).std(0) == pytest.approx([1, 1, 1], rel=1e-4)


def test_other_images_are_normalised_with_the_training_sets_statistics():
    dark = np.zeros((1, 32, 32, 3), np.uint8)
    with tf.Graph().as_default(), tf1.Session() as session:
        values = session.run(STATISTICS(tf.constant(dark)))
    np.testing.assert_allclose(values[0, 0, 0], [-120 / 60, -110 / 50, -100 / 40], rtol=1e-6)
