"""From the data set to augmented, normalised batches: tf.data inside the graph.

The order of an epoch, its crops and its mirrorings come from `shared.rng` as pure functions of (seed, epoch), so
the graph holds no random operator and a run resumed in the middle of an epoch sees the images it would have seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Tuple

import numpy as np
import tensorflow as tf

from shared import rng
from shared.cifar10.dataset import channel_statistics
from shared.recipes.cifar10 import CifarRecipe
from shared.rng import Crops
from tf_seresnet.devices.replicas import ALONE, Replicas

tf1 = tf.compat.v1


@dataclass(frozen=True)
class Normalisation:
    """Per-channel statistics of the training set, in pixel values 0..255. The test set is normalised with them too."""

    mean: Tuple[float, ...]
    std: Tuple[float, ...]

    @classmethod
    def from_images(cls, images: np.ndarray) -> Normalisation:
        """The statistics of a training set, uint8 [N, height, width, 3]."""
        mean, std = channel_statistics(images)
        return cls(tuple(mean.tolist()), tuple(std.tolist()))

    def __call__(self, images: Any) -> Any:
        """Float32 images of zero mean and unit variance from uint8 [batch, height, width, 3]."""
        return (tf.cast(images, tf.float32) - tf.constant(self.mean, tf.float32)) / tf.constant(self.std, tf.float32)


def steps_per_epoch(images: int, step_images: int, devices: int, static_shapes: bool) -> int:
    """Steps in an epoch; the last may be short unless `static_shapes`, but each device has an image."""
    steps, rest = divmod(images, step_images)
    return steps + (not static_shapes and rest >= devices)


class TrainingInput:
    """The training set as batches in the graph, started anew for every epoch.

    `images` float32 [batch, 32, 32, 3] and `labels` int32 [batch] are this process's batch of the step; `data_wait`
    float64 [] is how long the step waited for it, in seconds, or None. `parts` are its images and labels by device,
    `shares` the part of the step's images that each device has. The step s of an epoch trains on the images s * B * D
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
        self._images, self._labels = images, labels
        self.recipe, self.device, self.replicas = recipe, device, replicas
        self._step_images = recipe.batch_size * replicas.count
        static_shapes = device.static_shapes
        self.steps_per_epoch = steps_per_epoch(len(images), self._step_images, replicas.count, static_shapes)
        self.left_out = len(images) - min(len(images), self.steps_per_epoch * self._step_images)
        with tf.device("/cpu:0"), tf1.name_scope("input"):
            types = {"labels": tf.int32, "top": tf.int32, "left": tf.int32, "flip": tf.bool}
            self._placeholders = {name: tf1.placeholder(kind, (None,)) for name, kind in types.items()}
            self._placeholders["images"] = tf1.placeholder(tf.uint8, (None, *images.shape[1:]))
            dataset = tf1.data.Dataset.from_tensor_slices(self._placeholders)
            dataset = dataset.batch(recipe.batch_size * replicas.towers, drop_remainder=static_shapes)

            @tf.autograph.experimental.do_not_convert  # plain operators: nothing for it to translate
            def prepare(batch: Dict[str, Any]) -> Tuple[Any, Any]:
                border = [recipe.crop_padding] * 2  # zeros: the training set's mean colour
                padded = tf.pad(normalise(batch["images"]), [[0, 0], border, border, [0, 0]])
                return _crop(padded, images.shape[1:3], batch["top"], batch["left"], batch["flip"]), batch["labels"]

            dataset = dataset.map(prepare, num_parallel_calls=workers).prefetch(2)
            self._iterator = tf1.data.make_initializable_iterator(dataset)
            # Clocks in the graph: the input's share of a step cannot be seen from outside it.
            started = [tf.timestamp()] if device.times_data_wait else []
            with tf.control_dependencies(started):
                self.images, self.labels = self._iterator.get_next()
            self.data_wait = None
            if started:
                with tf.control_dependencies([self.labels]):
                    self.data_wait = tf.timestamp() - started[0]
            self.parts, self.shares = _divided(self.images, self.labels, replicas)

    def start_epoch(self, session: Any, epoch: int, first_step: int = 0) -> Iterator[int]:
        """Make the next batch that of `first_step` of the zero-based `epoch`. Returns the numbers of the steps left."""
        count = len(self._images)
        recipe, order = self.recipe, rng.epoch_order(self.recipe.seed, epoch, count)
        crops = rng.epoch_crops(recipe.seed, epoch, count, recipe.crop_padding, recipe.flip)
        own = self._positions(first_step)
        self.start(session, self._images[order[own]], self._labels[order[own]], Crops(*(part[own] for part in crops)))
        return iter(range(first_step, self.steps_per_epoch))

    def start(self, session: Any, images: np.ndarray, labels: np.ndarray, crops: Crops) -> None:
        """Make these the images of the next steps, uint8 [N, height, width, 3], each with its label and crop."""
        values = dict(crops._asdict(), images=images, labels=labels)
        session.run(self._iterator.initializer, {self._placeholders[name]: value for name, value in values.items()})

    def _positions(self, first_step: int) -> np.ndarray:
        """Where in the epoch's order this process's images stand, from a step on: int64 [images]."""
        last = min(self.steps_per_epoch * self._step_images, len(self._images))
        positions = np.arange(first_step * self._step_images, last)
        if self.replicas.size == 1:
            return positions
        steps = positions.reshape(-1, self.replicas.size, self._step_images // self.replicas.size)
        return steps[:, self.replicas.rank].ravel()


def _divided(images: Any, labels: Any, replicas: Replicas) -> Tuple[List[Tuple[Any, Any]], List[Any]]:
    """A process's batch as nearly equal parts, one a device, and the share of the whole step that each of them is."""
    if replicas.towers == 1:
        return [(images, labels)], [1.0 / replicas.size]
    count = tf.size(labels)
    edges = [count * number // replicas.towers for number in range(replicas.towers + 1)]
    parts = [(images[start:end], labels[start:end]) for start, end in zip(edges, edges[1:])]
    shares = [tf.cast(end - start, tf.float32) / tf.cast(count, tf.float32) for start, end in zip(edges, edges[1:])]
    return parts, shares


def _crop(padded: Any, size: Tuple[int, int], top: Any, left: Any, flip: Any) -> Any:
    """Crop and mirror a whole batch by two gathers: the mirrored image is the one whose columns are read backwards."""
    height, width = size
    rows = top[:, None] + tf.range(height)
    forwards = tf.range(width)
    # A flip adds width - 1 - 2 * column to a column, which counts them from the other end.
    columns = left[:, None] + forwards + tf.cast(flip, tf.int32)[:, None] * (width - 1 - 2 * forwards)
    cropped = tf.gather(tf.gather(padded, rows, axis=1, batch_dims=1), columns, axis=2, batch_dims=1)
    return tf.reshape(cropped, [-1, height, width, padded.shape[-1]])
