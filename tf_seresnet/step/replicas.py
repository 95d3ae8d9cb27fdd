"""The devices that train together, as a graph sees them.

A step is written once, for one device. `Replicas.run` builds it on every device of this process. Inside it `summed` is
the all-reduce over the devices of all processes.
"""

from __future__ import annotations

import signal
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import tensorflow as tf

from shared.metrics import Metrics
from shared.system.signals import Interrupts, Stopped

tf1 = tf.compat.v1


class Replicas:
    """One device: process `rank` of `ranks`, with `towers` devices in each."""

    rank, ranks, towers = 0, 1, 1
    averages = False  # whether the optimizer averages the gradients over the devices, else it sums them

    @property
    def count(self) -> int:
        """All devices."""
        return self.ranks * self.towers

    def run(self, function: Callable[[int], Any]) -> List[Any]:
        """`function(number)` for each device of this process, built to run on that device."""
        return [function(0)]

    def summed(self, tensors: List[Any]) -> List[Any]:
        """Inside `run`: each float32 tensor summed over all devices. All devices pass the same list."""
        return tensors

    def assign(self, number: int, variable: Any, value: Any) -> Any:
        """Inside `run`, on the device of this number: the operation that sets a variable, to one value everywhere."""
        return tf1.assign(variable, value)

    def align(self, session: Any) -> None:
        """Broadcast the variables of rank 0. Needs the complete graph, and initialised variables."""

    def merged(self, session: Any, metrics: Metrics, stopping: bool) -> Tuple[Metrics, int]:
        """The metrics summed over all processes, and how many processes are `stopping`."""
        return metrics, int(stopping)

    def interrupts(self, own: Interrupts) -> Interrupts:
        """The requests to stop that the training loop obeys; `own` are the signals to this process."""
        return own

    def agree(self, stopping: int) -> None:
        """`stopping` processes have been asked to stop; every process has received the same number."""


ALONE = Replicas()


class Mirrored(Replicas):
    """Several devices of one process through tf.distribute.MirroredStrategy, with a copy of every variable on each.

    Create it inside the graph that it is for, and build the graph in `strategy.scope()`.
    """

    def __init__(self, devices: Sequence[str], reduction: Any) -> None:
        self.strategy = tf.distribute.MirroredStrategy(devices, cross_device_ops=reduction)
        self.towers = len(devices)

    def run(self, function: Callable[[int], Any]) -> List[Any]:
        results: Dict[int, Any] = {}

        def replica() -> None:
            number = len(results)  # tf.distribute builds one after the other, each up to its first all-reduce
            results[number] = None
            results[number] = function(number)

        run = getattr(self.strategy, "run", None) or self.strategy.experimental_run_v2  # its name up to 2.1
        run(replica)
        return [results[number] for number in range(self.towers)]

    def summed(self, tensors: List[Any]) -> List[Any]:
        # Not the context's all_reduce: it registers a gradient for itself, and fails on mirrored variables.
        def total(strategy: Any, vector: Any) -> Any:
            return strategy.extended.reduce_to(tf.distribute.ReduceOp.SUM, vector, destinations=vector)

        return unflatten(tf.distribute.get_replica_context().merge_call(total, args=(flatten(tensors),)), tensors)

    def assign(self, number: int, variable: Any, value: Any) -> Any:
        return self.strategy.experimental_local_results(variable)[number].assign(value)


class AgreedInterrupts(Interrupts):
    """The requests to one of several processes, which stop before the same step."""

    def __init__(self, own: Interrupts) -> None:
        self._own = own
        self.agreed = False

    @property
    def requested(self) -> Optional[int]:  # type: ignore[override]
        """The signal that this process has received."""
        return self._own.requested

    def raise_if_requested(self) -> None:
        if self.agreed:
            raise Stopped(self.requested or signal.SIGTERM)


def flatten(tensors: List[Any]) -> Any:
    """All tensors as one vector, for one all-reduce instead of many."""
    return tf.concat([tf.reshape(tensor, [-1]) for tensor in tensors], 0)


def unflatten(vector: Any, tensors: List[Any]) -> List[Any]:
    """The vector of `flatten` as tensors with the shapes of these."""
    sizes = [tensor.shape.num_elements() for tensor in tensors]
    return [tf.reshape(part, tensor.shape) for part, tensor in zip(tf.split(vector, sizes), tensors)]
