"""From the data set to augmented, normalised batches: tf.data inside the graph.

The order of an epoch, its crops and its mirrorings come from `shared.rng` as pure functions of (seed, epoch), so
the graph holds no random operator and a run resumed in the middle of an epoch sees the images it would have seen.
"""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Tuple

import numpy as np
import tensorflow as tf

from shared import rng
from shared.recipes.cifar10 import CifarRecipe
from shared.rng import Crops
from tf_seresnet.devices.replicas import ALONE, Replicas
from tf_seresnet.step import augmentation
from tf_seresnet.step.drawing import drawn
from tf_seresnet.step.spec import Normalisation, steps_per_epoch

tf1 = tf.compat.v1


class Batch(NamedTuple):
    """One device's part of a step, as tensors; what the recipe does not use is None."""

    images: Any  # float32 [batch, 32, 32, 3]
    labels: Any  # int32 [batch]
    others: Any = None  # int32 [batch], the labels of the images mixed in
    share: Any = None  # float32 [batch], that of an image's own label
    branch_factors: Any = None  # float32 [batch, blocks], of stochastic depth


class TrainingInput:
    """The training set as batches in the graph, started anew for every epoch.

    `images` float32 [batch, 32, 32, 3] and `labels` int32 [batch] are this process's batch of the step; `data_wait`
    float64 [] is how long the step waited for it, in seconds, or None. `parts` are its batches by device, `shares` the
    part of the step's images that each device has. The step s of an epoch trains on the images s * B * D
    to (s + 1) * B * D of the epoch's order, for batches of B images on D devices, the first device on the first of
    them. The last step of an epoch is short unless static shapes drop it; where it has fewer images than there are
    devices, these are left out.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        normalise: Normalisation,
        recipe: CifarRecipe,
        device: Any,
        replicas: Replicas = ALONE,
        workers: int = 2,
    ) -> None:
        self._images, self._labels, self._normalise = images, labels.astype(np.int32, copy=False), normalise
        self.recipe, self.device, self.replicas = recipe, device, replicas
        self._step_images = recipe.batch_size * replicas.count
        static_shapes = device.static_shapes
        self.steps_per_epoch = steps_per_epoch(len(images), self._step_images, replicas.count, static_shapes)
        self.left_out = len(images) - min(len(images), self.steps_per_epoch * self._step_images)
        self._open(workers)
        self.take()

    @staticmethod
    def on_device_or_host(images: np.ndarray, labels: np.ndarray, *settings: Any) -> TrainingInput:
        """The input that suits the device; the settings are the constructor's, by position."""
        from tf_seresnet.step.device_input import DeviceInput

        return (DeviceInput if settings[2].holds_training_set else TrainingInput)(images, labels, *settings)

    def _open(self, workers: int) -> None:
        """Build what brings the batches."""
        with tf.device("/cpu:0"), tf1.name_scope("input"):
            one = {"labels": self._labels[:1], "images": self._images[:1], **self._drawn(0, 1)}
            shapes = {name: (tf.as_dtype(values.dtype), (None, *values.shape[1:])) for name, values in one.items()}
            self._placeholders = {name: tf1.placeholder(*shape) for name, shape in shapes.items()}
            dataset = tf1.data.Dataset.from_tensor_slices(self._placeholders)
            size = self.recipe.batch_size * self.replicas.towers
            dataset = dataset.batch(size, drop_remainder=self.device.static_shapes)
            # Plain operators: nothing for autograph to translate.
            prepare = tf.autograph.experimental.do_not_convert(self._prepared)
            self._iterator = tf1.data.make_initializable_iterator(
                dataset.map(prepare, num_parallel_calls=workers).prefetch(2)
            )

    def take(self) -> None:
        """Build, where the graph is being built, what takes the next batch: by itself, or inside of a loop."""
        with tf.device("/cpu:0"), tf1.name_scope("input"):
            # Clocks in the graph: the input's share of a step cannot be seen from outside it.
            started = [tf.timestamp()] if self.device.times_data_wait else []
            with tf.control_dependencies(started):
                whole, data_wait = Batch(**self._iterator.get_next()), None
            if started:
                with tf.control_dependencies([whole.labels]):
                    data_wait = tf.timestamp() - started[0]
            self._use(whole, data_wait)

    def _use(self, whole: Batch, data_wait: Any) -> None:
        self.images, self.labels, self.data_wait = whole.images, whole.labels, data_wait
        self.parts, self.shares = _divided(whole, self.replicas)

    def _prepared(self, batch: Dict[str, Any]) -> Dict[str, Any]:
        """The fields of a `Batch` from the images, the labels and what is `_drawn` for them."""
        border = [self.recipe.crop_padding] * 2  # zeros: the training set's mean colour
        padded = tf.pad(self._normalise(batch["images"]), [[0, 0], border, border, [0, 0]])
        size = self._images.shape[1:3]
        return _augmented(augmentation.crop(padded, size, batch["top"], batch["left"], batch["flip"]), batch)

    def start_epoch(self, session: Any, epoch: int, first_step: int = 0) -> Iterator[int]:
        """Make the next batch that of `first_step` of the zero-based `epoch`. Returns the numbers of the steps left."""
        count, own = len(self._images), self._positions(first_step)
        order = rng.epoch_order(self.recipe.seed, epoch, count)[own]
        more = {name: part[own] for name, part in self._drawn(epoch, count).items()}
        self._start(session, {"images": self._images[order], "labels": self._labels[order], **more})
        return iter(range(first_step, self.steps_per_epoch))

    def start(self, session: Any, images: np.ndarray, labels: np.ndarray, crops: Crops) -> None:
        """Make these the images of the next steps, uint8 [N, height, width, 3], each with its label and crop."""
        self._start(session, {**crops._asdict(), "images": images, "labels": labels})

    def _start(self, session: Any, values: Mapping[str, np.ndarray]) -> None:
        session.run(self._iterator.initializer, {self._placeholders[name]: value for name, value in values.items()})

    def _drawn(self, epoch: int, count: int) -> Dict[str, np.ndarray]:
        return drawn(self.recipe, epoch, count, self._images.shape[1])

    def _positions(self, first_step: int) -> np.ndarray:
        """Where in the epoch's order this process's images stand, from a step on: int64 [images]."""
        last = min(self.steps_per_epoch * self._step_images, len(self._images))
        positions = np.arange(first_step * self._step_images, last)
        if self.replicas.size == 1:
            return positions
        steps = positions.reshape(-1, self.replicas.size, self._step_images // self.replicas.size)
        return steps[:, self.replicas.rank].ravel()


def _augmented(images: Any, batch: Dict[str, Any]) -> Dict[str, Any]:
    """The fields of a `Batch`: cropped images cut out and mixed, as the numbers in `batch` say."""
    if "cutout" in batch:
        images = augmentation.cut_out(images, batch["cutout"])
    fields: Dict[str, Any] = {name: batch[name] for name in ("labels", "share", "branch_factors") if name in batch}
    if "share" in batch:
        images = augmentation.mix(images, batch["pixels"], batch["box"])
        fields["others"] = augmentation.before(batch["labels"])
    return {"images": images, **fields}


def _divided(whole: Batch, replicas: Replicas) -> Tuple[List[Batch], List[Any]]:
    """A process's batch as nearly equal parts, one a device, and the share of the whole step that each of them is."""
    if replicas.towers == 1:
        return [whole], [1.0 / replicas.size]
    count = tf.size(whole.labels)
    edges = [count * number // replicas.towers for number in range(replicas.towers + 1)]
    places = list(zip(edges, edges[1:]))
    parts = [Batch(*(None if one is None else one[start:end] for one in whole)) for start, end in places]
    return parts, [tf.cast(end - start, tf.float32) / tf.cast(count, tf.float32) for start, end in places]
