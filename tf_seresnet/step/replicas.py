"""The devices that train together, as a graph sees them.

A step is written once, for one device. `Replicas.run` builds it for every device of this process, and inside it
`summed` and `assign` reach over all of them, those of other processes included.
"""

from __future__ import annotations

import signal
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import tensorflow as tf

from shared.cli.signals import Interrupts, Stopped
from shared.metrics import Metrics

tf1 = tf.compat.v1


class Replicas:
    """One device: process `rank` of `ranks`, with `towers` devices in each."""

    rank, ranks, towers = 0, 1, 1
    averages = False  # whether the optimizer averages the devices' gradients, else it adds them up

    @property
    def count(self) -> int:
        """All devices."""
        return self.ranks * self.towers

    def run(self, function: Callable[[int], Any]) -> List[Any]:
        """What `function(number)` gives for each device of this process, built to run on that device."""
        return [function(0)]

    def summed(self, tensors: List[Any]) -> List[Any]:
        """Inside `run`: each float32 tensor added up over all devices. The same list on every device."""
        return tensors

    def assign(self, number: int, variable: Any, value: Any) -> Any:
        """Inside `run`, on the device of this number: the operation that sets a variable; all give it one value."""
        return tf1.assign(variable, value)

    def align(self, session: Any) -> None:
        """Give all processes the variables of the first. Needs the whole graph, and initialised variables."""

    def merged(self, session: Any, metrics: Metrics, stopping: bool) -> Tuple[Metrics, int]:
        """The metrics of all processes together, and how many of them are `stopping`."""
        return metrics, int(stopping)

    def interrupts(self, own: Interrupts) -> Interrupts:
        """What a loop asks whether it is to stop, made of the requests to this process."""
        return own

    def agree(self, stopping: int) -> None:
        """So many of the processes were asked to stop when they last spoke: if any, the loop is told to, in all."""


ALONE = Replicas()


class Mirrored(Replicas):
    """Several devices of one process through tf.distribute.MirroredStrategy: a copy of every variable on each.

    Made inside the graph that it is for, whose building then takes place in `strategy.scope()`.
    """

    def __init__(self, devices: Sequence[str], reduction: Any) -> None:
        self.strategy = tf.distribute.MirroredStrategy(devices, cross_device_ops=reduction)
        self.towers = len(devices)

    def run(self, function: Callable[[int], Any]) -> List[Any]:
        results: Dict[int, Any] = {}

        def replica() -> None:
            number = len(results)  # tf.distribute builds one after the other; each runs to its first exchange
            results[number] = None
            results[number] = function(number)

        run = getattr(self.strategy, "run", None) or self.strategy.experimental_run_v2  # its name up to 2.1
        run(replica)
        return [results[number] for number in range(self.towers)]

    def summed(self, tensors: List[Any]) -> List[Any]:
        # Not the context's all_reduce: it looks for gradients through itself, and fails on the copies of variables.
        def total(strategy: Any, vector: Any) -> Any:
            return strategy.extended.reduce_to(tf.distribute.ReduceOp.SUM, vector, destinations=vector)

        return unflatten(tf.distribute.get_replica_context().merge_call(total, args=(flatten(tensors),)), tensors)

    def assign(self, number: int, variable: Any, value: Any) -> Any:
        return self.strategy.experimental_local_results(variable)[number].assign(value)


class AgreedInterrupts(Interrupts):
    """The requests to one of several processes, which stop only where all of them know of it."""

    def __init__(self, own: Interrupts) -> None:
        self._own = own
        self.agreed = False

    @property
    def requested(self) -> Optional[int]:  # type: ignore[override]
        """The signal that has come to this process."""
        return self._own.requested

    def raise_if_requested(self) -> None:
        if self.agreed:
            raise Stopped(self.requested or signal.SIGTERM)


def flatten(tensors: List[Any]) -> Any:
    """All of them as one vector: one exchange instead of many."""
    return tf.concat([tf.reshape(tensor, [-1]) for tensor in tensors], 0)


def unflatten(vector: Any, tensors: List[Any]) -> List[Any]:
    """A vector of `flatten` as tensors again, of the shapes of these."""
    sizes = [tensor.shape.num_elements() for tensor in tensors]
    return [tf.reshape(part, tensor.shape) for part, tensor in zip(tf.split(vector, sizes), tensors)]
