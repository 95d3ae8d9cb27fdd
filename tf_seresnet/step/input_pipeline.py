"""From the data set to augmented, normalised batches: tf.data inside the graph.

The order of an epoch, its crops and its mirrorings come from `shared.rng` as pure functions of (seed, epoch), so
the graph holds no random operator and a run resumed in the middle of an epoch sees the images it would have seen.
"""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

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
        self._images, self._labels = images, labels
        self.recipe, self.device, self.replicas = recipe, device, replicas
        self._step_images = recipe.batch_size * replicas.count
        static_shapes = device.static_shapes
        self.steps_per_epoch = steps_per_epoch(len(images), self._step_images, replicas.count, static_shapes)
        self.left_out = len(images) - min(len(images), self.steps_per_epoch * self._step_images)
        with tf.device("/cpu:0"), tf1.name_scope("input"):
            shapes: Dict[str, Tuple[Any, Tuple[int, ...]]] = {
                **{"labels": (tf.int32, ()), "images": (tf.uint8, images.shape[1:])},
                **{"top": (tf.int32, ()), "left": (tf.int32, ()), "flip": (tf.bool, ())},
                **{name: (tf.as_dtype(one.dtype), one.shape[1:]) for name, one in self._more(0, 1).items()},
            }
            self._placeholders = {n: tf1.placeholder(kind, (None, *shape)) for n, (kind, shape) in shapes.items()}
            dataset = tf1.data.Dataset.from_tensor_slices(self._placeholders)
            dataset = dataset.batch(recipe.batch_size * replicas.towers, drop_remainder=static_shapes)

            @tf.autograph.experimental.do_not_convert  # plain operators: nothing for it to translate
            def prepare(batch: Dict[str, Any]) -> Dict[str, Any]:
                border = [recipe.crop_padding] * 2  # zeros: the training set's mean colour
                padded = tf.pad(normalise(batch["images"]), [[0, 0], border, border, [0, 0]])
                ready = augmentation.crop(padded, images.shape[1:3], batch["top"], batch["left"], batch["flip"])
                return _augmented(ready, batch)

            dataset = dataset.map(prepare, num_parallel_calls=workers).prefetch(2)
            self._iterator = tf1.data.make_initializable_iterator(dataset)
            # Clocks in the graph: the input's share of a step cannot be seen from outside it.
            started = [tf.timestamp()] if device.times_data_wait else []
            with tf.control_dependencies(started):
                whole = Batch(**self._iterator.get_next())
            self.images, self.labels = whole.images, whole.labels
            self.data_wait = None
            if started:
                with tf.control_dependencies([self.labels]):
                    self.data_wait = tf.timestamp() - started[0]
            self.parts, self.shares = _divided(whole, replicas)

    def start_epoch(self, session: Any, epoch: int, first_step: int = 0) -> Iterator[int]:
        """Make the next batch that of `first_step` of the zero-based `epoch`. Returns the numbers of the steps left."""
        count = len(self._images)
        recipe, order = self.recipe, rng.epoch_order(self.recipe.seed, epoch, count)
        crops = rng.epoch_crops(recipe.seed, epoch, count, recipe.crop_padding, recipe.flip)
        own = self._positions(first_step)
        more = {name: part[own] for name, part in self._more(epoch, count).items()}
        crops = Crops(*(part[own] for part in crops))
        self.start(session, self._images[order[own]], self._labels[order[own]], crops, more)
        return iter(range(first_step, self.steps_per_epoch))

    def start(
        self,
        session: Any,
        images: np.ndarray,
        labels: np.ndarray,
        crops: Crops,
        more: Optional[Mapping[str, np.ndarray]] = None,
    ) -> None:
        """Make these the images of the next steps, uint8 [N, height, width, 3], each with its label and crop.

        `more` is what the recipe draws besides, by name.
        """
        values = {**crops._asdict(), "images": images, "labels": labels, **(more or {})}
        session.run(self._iterator.initializer, {self._placeholders[name]: value for name, value in values.items()})

    def _more(self, epoch: int, count: int) -> Dict[str, np.ndarray]:
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
