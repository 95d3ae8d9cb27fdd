"""An exponential moving average of the weights, with which a run is evaluated (Polyak and Juditsky, 1992)."""

from __future__ import annotations

import contextlib
from typing import Any, Callable, Iterator, List, Optional, TypeVar

import numpy as np
import tensorflow as tf

from tf_seresnet.devices.replicas import Replicas
from tf_seresnet.step import variables

tf1 = tf.compat.v1
T = TypeVar("T")

_DEBIASING = ("biased", "local_step")  # which inference does not use


class WeightAverage:
    """average = d * average + (1 - d) * weights after every step, of the weights and the moving statistics together.

    d is the smaller of `decay` and t / (9 + t) in step t, counted from 0, so that the first steps are forgotten
    quickly, as by `num_updates` of tf.train.ExponentialMovingAverage. All averages are one vector, one variable. In a
    checkpoint the network's variables have the averages and this variable the weights in training: whatever reads a
    checkpoint reads what was evaluated. Without a `decay` there is no average, and all this does nothing.
    """

    def __init__(self, decay: Optional[float]) -> None:
        self._decay = decay
        self._vector: Any = None
        self._steps: Any = None

    def update(self, number: int, replicas: Replicas) -> List[Any]:
        """Inside `replicas.run`, on this device: the operations, to be run after the step's update of the weights."""
        if self._decay is None:
            return []
        own = [tf.reshape(replicas.local(number, one).read_value(), [-1]) for one in _averaged()]
        weights, zeros = tf.concat(own, 0), tf1.zeros_initializer()
        self._vector = tf1.get_variable("weight_average/vector", weights.shape, tf.float32, zeros, trainable=False)
        self._steps = tf1.get_variable("weight_average/steps", (), tf.float32, zeros, trainable=False)
        steps = replicas.local(number, self._steps).read_value()
        average = replicas.local(number, self._vector).read_value()
        rate = 1.0 - tf.minimum(self._decay, steps / (steps + 9.0))
        with tf.control_dependencies([rate]):
            counted = steps + 1.0
        return [
            replicas.assign(number, self._vector, average + (weights - average) * rate),
            replicas.assign(number, self._steps, counted),
        ]

    def applied(self, session: Any, function: Callable[..., T]) -> Callable[..., T]:
        """`function`, called while the network's variables have the averages."""

        def call(*arguments: Any) -> T:
            with self._swapped(session):
                return function(*arguments)

        return call if self._decay is not None else function

    @contextlib.contextmanager
    def _swapped(self, session: Any) -> Iterator[None]:
        self.swap(session)
        try:
            yield
        finally:
            self.swap(session)

    def swap(self, session: Any) -> None:
        """Exchange the network's variables and the averages, bit for bit; before the first step there is nothing."""
        if self._decay is None or not session.run(self._steps):
            return
        averaged = _averaged()
        values = [np.array(value) for value in session.run(averaged)]  # copies, which the assignments leave alone
        vector = np.array(session.run(self._vector))
        edges = np.cumsum([value.size for value in values])[:-1]
        parts = [part.reshape(value.shape) for part, value in zip(np.split(vector, edges), values)]
        new = {one.op.name: part for one, part in zip(averaged, parts)}
        new[self._vector.op.name] = np.concatenate([value.ravel() for value in values])
        variables.load_values(session, new)


def _averaged() -> List[Any]:
    return [one for one in variables.model_variables() if one.op.name.rsplit("/", 1)[-1] not in _DEBIASING]
