"""The training set on the device: batches are gathered by index inside the graph, and augmented there.

What a step trains on is a pure function of the seed and the step, so these batches are those of `TrainingInput`: to
the bit, unless TensorFlow makes products of the graph's divisions by constants. No step waits for a copy from the host.
CIFAR-10 takes 150 MB of the device's memory.
"""

from __future__ import annotations

from typing import Any, Iterator, List, Tuple

import numpy as np
import tensorflow as tf

from shared import rng
from tf_seresnet.step.input_pipeline import Batch, TrainingInput

tf1 = tf.compat.v1


class DeviceInput(TrainingInput):
    """`TrainingInput` of one device. Of an epoch it is given the order of the images and the numbers drawn for it.

    All of these are variables of the graph, which no checkpoint holds.
    """

    def _open(self, workers: int) -> None:
        count = len(self._images)
        drawn = {"order": np.zeros(count, np.int32), **self._drawn(0, count)}
        self._epoch = {name: _variable(name, values) for name, values in drawn.items()}
        self._set = {"images": _variable("images", self._images), "labels": _variable("labels", self._labels)}
        self._next = _variable("next", np.zeros((), np.int32))  # place in the order of the next step's first image
        self._loaded: Any = None  # the session that has the training set

    def take(self) -> None:
        size, last = self.recipe.batch_size, min(self.steps_per_epoch * self.recipe.batch_size, len(self._images))
        with tf1.name_scope("input"):
            first = self._next.assign_add(size, read_value=True) - size
            images = size if last % size == 0 else tf.minimum(size, last - first)
            batch = {name: _part(variable, first, images) for name, variable in self._epoch.items()}
            order = batch.pop("order")
            batch.update({name: tf.gather(variable, order) for name, variable in self._set.items()})
            self._use(Batch(**self._prepared(batch)), None)

    def start_epoch(self, session: Any, epoch: int, first_step: int = 0) -> Iterator[int]:
        count = len(self._images)
        new: List[Tuple[Any, Any]] = [(self._next, first_step * self.recipe.batch_size)]
        drawn = {"order": rng.epoch_order(self.recipe.seed, epoch, count), **self._drawn(epoch, count)}
        new += [(self._epoch[name], values) for name, values in drawn.items()]
        if self._loaded is not session:
            new += [(self._set["images"], self._images), (self._set["labels"], self._labels)]
            self._loaded = session
        # Through the variables' own initialisers: nothing is added to the graph.
        feeds = {variable.initializer.inputs[1]: values for variable, values in new}
        session.run([variable.initializer for variable, _ in new], feeds)
        return iter(range(first_step, self.steps_per_epoch))


def _variable(name: str, values: np.ndarray) -> Any:
    local = {"trainable": False, "collections": [tf1.GraphKeys.LOCAL_VARIABLES], "use_resource": True}
    kind = tf.as_dtype(values.dtype)
    return tf1.get_variable(f"input/{name}", values.shape, kind, tf1.zeros_initializer(), **local)


def _part(variable: Any, first: Any, images: Any) -> Any:
    """The entries of so many places from the first one on."""
    shape = variable.shape.as_list()
    return tf.slice(variable, [first] + [0] * (len(shape) - 1), [images, *shape[1:]])
