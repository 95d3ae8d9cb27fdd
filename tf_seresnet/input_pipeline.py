"""From the data set to augmented, normalised batches: tf.data inside the graph.

The order of an epoch, its crops and its mirrorings come from `shared.rng` as pure functions of (seed, epoch), so
the graph holds no random operator and a run resumed in the middle of an epoch sees the images it would have seen.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Optional, Tuple

import numpy as np
import tensorflow as tf

from shared import cifar10, rng, sample
from shared.cifar10.dataset import Cifar10, channel_statistics
from shared.errors import UsageError
from shared.system.paths import check_there
from shared.text import in_utf8, of_system
from tf_seresnet.devices.replicas import ALONE, Replicas
from tf_seresnet.options import RunConfig

tf1 = tf.compat.v1

PREFETCHED_BATCHES = 2


def load_data(config: RunConfig, state: Optional[Dict[str, Any]] = None) -> Tuple[Cifar10, str]:
    """The data set, and a line about where it came from.

    The first of these: --data-path, the data set of the checkpoint with this `state`, ./cifar-10-batches-py, and where
    neither data nor weights are named the embedded sample. Raises UsageError where a named one is missing.
    """
    if config.data_path is not None:
        data = cifar10.load(config.data_path)
        return data, f"data: {data.name} from {data.path}"
    if state is not None:
        data = _load_stored(state["data"])
        return data, f"data: {data.name} from {data.path}, where the checkpoint was trained"
    if os.path.lexists(cifar10.FOLDER):
        data = cifar10.load(cifar10.FOLDER)
        return data, f"data: {data.name} from ./{cifar10.FOLDER}"
    if config.checkpoint is not None or config.resume is not None:
        raise UsageError(f"no data set is named, and there is no ./{cifar10.FOLDER}; name one with --data-path DIR")
    data = cifar10.load(sample.cifar10_folder())
    return data, (
        f"data: no CIFAR-10 here, so the embedded sample is used ({len(data.train_images)} handwritten digits to train"
        f" on, {len(data.test_images)} to test on); give the real data with --data-path DIR"
    )


def _load_stored(stored: Dict[str, Any]) -> Cifar10:
    """The data set that a checkpoint names. The embedded sample is written again where its folder is gone."""
    path = of_system(stored["path"])
    if sample.is_cached(path) and not os.path.lexists(path):
        path = str(sample.cifar10_folder())
    check_there(path)
    return cifar10.load(path)


def describe_data(data: Cifar10) -> Dict[str, Any]:
    """The `dataset` part of a record."""
    return {
        "name": data.name,
        "path": in_utf8(data.path),
        "train_images": len(data.train_images),
        "eval_images": len(data.test_images),
        "fingerprint": data.fingerprint,
        "classes": data.label_names,
    }


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
        mean = tf.constant(self.mean, tf.float32)
        std = tf.constant(self.std, tf.float32)
        return (tf.cast(images, tf.float32) - mean) / std


@dataclass(frozen=True)
class Augmentation:
    """Random crop of the zero-padded, normalised image, and mirroring."""

    padding: int
    flip: bool


def steps_per_epoch(images: int, step_images: int, devices: int, static_shapes: bool) -> int:
    """Steps of `step_images` images in an epoch. The last may be short unless `static_shapes`, but not so short that a
    device has none.
    """
    steps, rest = divmod(images, step_images)
    return steps + (not static_shapes and rest >= devices)


class TrainingInput:
    """The training set as batches in the graph, started anew for every epoch.

    `images` float32 [batch, 32, 32, 3] and `labels` int32 [batch] are this process's batch of the step; `data_wait`
    float64 [] is how long the step waited for it, in seconds, or None. `parts` are its images and labels by device,
    `shares` the part of the step's images that each device has. `batch_size` is per device: the step s of an epoch
    trains on the images s * B * D to (s + 1) * B * D of the epoch's order, D devices together, the first device on the
    first of them. The last step of an epoch is short unless `static_shapes` drops it; where it has fewer images than
    there are devices, these are left out.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        normalise: Normalisation,
        augmentation: Augmentation,
        batch_size: int,
        seed: int,
        workers: int = 2,
        static_shapes: bool = False,
        times_data_wait: bool = True,
        replicas: Replicas = ALONE,
    ) -> None:
        self._images, self._labels = images, labels
        self._augmentation = augmentation
        self._step_images = batch_size * replicas.count
        self._replicas = replicas
        self._seed = seed
        self.steps_per_epoch = steps_per_epoch(len(images), self._step_images, replicas.count, static_shapes)
        self.left_out = len(images) - min(len(images), self.steps_per_epoch * self._step_images)
        with tf.device("/cpu:0"), tf1.name_scope("input"):
            self._placeholders = {
                "images": tf1.placeholder(tf.uint8, (None, *images.shape[1:])),
                "labels": tf1.placeholder(tf.int32, (None,)),
                "top": tf1.placeholder(tf.int32, (None,)),
                "left": tf1.placeholder(tf.int32, (None,)),
                "flip": tf1.placeholder(tf.bool, (None,)),
            }
            dataset = tf1.data.Dataset.from_tensor_slices(self._placeholders)
            dataset = dataset.batch(batch_size * replicas.towers, drop_remainder=static_shapes)

            @tf.autograph.experimental.do_not_convert  # plain operators: nothing for it to translate
            def prepare(batch: Dict[str, Any]) -> Tuple[Any, Any]:
                padded = _pad(normalise(batch["images"]), augmentation.padding)
                size = images.shape[1:3]
                return _crop(padded, size, batch["top"], batch["left"], batch["flip"]), batch["labels"]

            dataset = dataset.map(prepare, num_parallel_calls=workers).prefetch(PREFETCHED_BATCHES)
            self._iterator = tf1.data.make_initializable_iterator(dataset)
            with _timed(times_data_wait) as timer:
                self.images, self.labels = self._iterator.get_next()
            self.data_wait = timer.seconds_until(self.labels)
            self.parts, self.shares = _divided(self.images, self.labels, replicas)

    def start_epoch(self, session: Any, epoch: int, first_step: int = 0) -> Iterator[int]:
        """Make the next batch that of step `first_step` of the zero-based `epoch`.

        The iterator has the numbers of the steps that are left of the epoch.
        """
        count = len(self._images)
        order = rng.epoch_order(self._seed, epoch, count)
        crops = rng.epoch_crops(self._seed, epoch, count, self._augmentation.padding, self._augmentation.flip)
        own = self._positions(first_step)
        values = {
            "images": self._images[order[own]],
            "labels": self._labels[order[own]],
            "top": crops.top[own],
            "left": crops.left[own],
            "flip": crops.flip[own],
        }
        feed = {self._placeholders[name]: value for name, value in values.items()}
        session.run(self._iterator.initializer, feed)
        return iter(range(first_step, self.steps_per_epoch))

    def _positions(self, first_step: int) -> np.ndarray:
        """Where in the epoch's order this process's images stand, from a step on: int64 [images]."""
        last = min(self.steps_per_epoch * self._step_images, len(self._images))
        positions = np.arange(first_step * self._step_images, last)
        if self._replicas.ranks == 1:
            return positions
        steps = positions.reshape(-1, self._replicas.ranks, self._step_images // self._replicas.ranks)
        return steps[:, self._replicas.rank].ravel()


def _divided(images: Any, labels: Any, replicas: Replicas) -> Tuple[List[Tuple[Any, Any]], List[Any]]:
    """A process's batch as nearly equal parts, one a device, and the share of the whole step that each of them is.

    Several processes have batches of one size each.
    """
    if replicas.towers == 1:
        return [(images, labels)], [1.0 / replicas.ranks]
    count = tf.size(labels)
    edges = [count * number // replicas.towers for number in range(replicas.towers + 1)]
    parts = [(images[start:end], labels[start:end]) for start, end in zip(edges, edges[1:])]
    shares = [tf.cast(end - start, tf.float32) / tf.cast(count, tf.float32) for start, end in zip(edges, edges[1:])]
    return parts, shares


def _pad(images: Any, padding: int) -> Any:
    """Zeros around normalised images: the training set's mean colour."""
    return tf.pad(images, [[0, 0], [padding, padding], [padding, padding], [0, 0]])


def _crop(padded: Any, size: Tuple[int, int], top: Any, left: Any, flip: Any) -> Any:
    """Crop and mirror a whole batch by two gathers: the mirrored image is the one whose columns are read backwards."""
    height, width = size
    rows = top[:, None] + tf.range(height)
    forwards = tf.range(width)
    # A flip adds width - 1 - 2 * column to a column, which counts them from the other end.
    columns = left[:, None] + forwards + tf.cast(flip, tf.int32)[:, None] * (width - 1 - 2 * forwards)
    cropped = tf.gather(tf.gather(padded, rows, axis=1, batch_dims=1), columns, axis=2, batch_dims=1)
    return tf.reshape(cropped, [-1, height, width, padded.shape[-1]])


class _Timer:
    def __init__(self, start: Any) -> None:
        self._start = start

    def seconds_until(self, tensor: Any) -> Any:
        if self._start is None:
            return None
        with tf.control_dependencies([tensor]):
            return tf.timestamp() - self._start


@contextlib.contextmanager
def _timed(enabled: bool) -> Iterator[_Timer]:
    """Clocks in the graph around what is built inside: the input's share of a step cannot be seen from outside it."""
    if not enabled:
        yield _Timer(None)
        return
    start = tf.timestamp()
    with tf.control_dependencies([start]):
        yield _Timer(start)
