"""Batches that are gathered on the device against those of the pipeline on the host: equal to the bit."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from shared import recipes

tf = pytest.importorskip("tensorflow")
from tf_seresnet import devices  # noqa: E402  (needs TensorFlow)
from tf_seresnet.step.device_input import DeviceInput  # noqa: E402
from tf_seresnet.step.input_pipeline import Batch, TrainingInput  # noqa: E402
from tf_seresnet.step.spec import Normalisation  # noqa: E402
from tf_seresnet.step.training_step import repeated  # noqa: E402

tf1 = tf.compat.v1

COUNT = 22
IMAGES = np.random.RandomState(0).randint(0, 256, (COUNT, 32, 32, 3)).astype(np.uint8)
LABELS = np.arange(COUNT, dtype=np.int32)  # the label is the image's number
STATISTICS = Normalisation((120.0, 110.0, 100.0), (60.0, 50.0, 40.0))
RECIPE = recipes.get("se_resnet110_gpu").override(batch_size=5, seed=11, crop_padding=4, flip=True)
MODERN = RECIPE.override(cutout=8, mixup=0.4, cutmix=1.0, drop_path=0.3, depth=8, variant="paper")


class Opened:
    """An input of this kind in a graph of its own with an open session."""

    def __init__(self, kind, recipe=RECIPE, static_shapes=False):
        device = SimpleNamespace(static_shapes=static_shapes, times_data_wait=False)
        with tf.Graph().as_default() as self.graph:
            self.input = kind(IMAGES, LABELS, STATISTICS, recipe, device)
            self.session = self.opened()

    def opened(self):
        """A new session; in one of other settings TensorFlow makes products of the divisions by constants."""
        return tf1.Session(graph=self.graph, config=devices.open_device("cpu").session_config())

    def batches(self, epoch, first_step=0):
        """All of the epoch from this step on, each a dictionary."""
        batch = {name: one for name, one in self.input.parts[0]._asdict().items() if one is not None}
        return [self.session.run(batch) for _ in self.input.start_epoch(self.session, epoch, first_step)]


def assert_same(batches, others):
    assert len(batches) == len(others) > 0
    for batch, other in zip(batches, others):
        assert batch.keys() == other.keys()
        for name, values in batch.items():
            assert values.dtype == other[name].dtype
            np.testing.assert_array_equal(values, other[name], err_msg=name)


@pytest.mark.parametrize(("recipe", "static"), [(RECIPE, False), (RECIPE, True), (MODERN, False)])
def test_batches_are_the_hosts(recipe, static):
    ours, hosts = Opened(DeviceInput, recipe, static), Opened(TrainingInput, recipe, static)
    for epoch, first_step in ((0, 0), (1, 0), (1, 2), (0, 1)):  # resumed in the middle, and an epoch left in the middle
        assert_same(ours.batches(epoch, first_step), hosts.batches(epoch, first_step))
    assert (ours.input.left_out, ours.input.data_wait) == (hosts.input.left_out, None)
    assert ours.input.labels.shape.as_list() == [5 if static else None]
    assert set(ours.batches(0)[0]) == set(Batch._fields if recipe is MODERN else ("images", "labels"))


def test_in_a_loop_of_the_graph_each_step_has_its_own_batch():
    ours = Opened(DeviceInput)
    with ours.graph.as_default():

        def step(rate):
            ours.input.take()
            labels = ours.input.labels
            return [labels], [tf.cast(tf.reduce_sum(labels), tf.float32)]

        rates = tf1.placeholder(tf.float32, (None,))
        sums = repeated(step, rates, 1)
    steps = len(list(ours.input.start_epoch(ours.session, 3)))
    got = [ours.session.run(sums, {rates: [0.0] * length}) for length in (2, steps - 2)]
    expected = [batch["labels"].sum() for batch in Opened(TrainingInput).batches(3)]
    assert np.concatenate(got)[:, 0].tolist() == expected


def test_the_set_is_not_in_the_graph_nor_in_a_checkpoint_and_goes_to_every_session_once():
    ours = Opened(DeviceInput)
    assert ours.graph.as_graph_def().ByteSize() < IMAGES.nbytes
    with ours.graph.as_default():
        assert tf1.global_variables() == []
    before = ours.batches(2)
    operations = len(ours.graph.get_operations())
    with ours.opened() as ours.session:
        assert_same(ours.batches(2), before)
    assert len(ours.graph.get_operations()) == operations
