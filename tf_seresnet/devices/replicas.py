"""The devices that train together, as a graph sees them: a step is written once, for one device."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Sequence

import tensorflow as tf

from shared.metrics import Metrics
from shared.run.loop import StopAgreement
from shared.system.signals import Interrupts, Stopped

tf1 = tf.compat.v1


class Replicas(StopAgreement):
    """One device: process `rank` of `size`, with `towers` devices in each. The graph is built inside, as a context."""

    rank, size, towers = 0, 1, 1
    averages = False  # whether the optimizer averages the gradients over the devices, else it sums them

    @property
    def count(self) -> int:
        """All devices."""
        return self.size * self.towers

    def __enter__(self) -> Replicas:
        return self

    def __exit__(self, *error: Any) -> None:
        pass

    def run(self, function: Callable[[int], Any]) -> List[Any]:
        """`function(number)` for each device of this process, built to run on that device."""
        return [function(0)]

    def summed(self, tensors: List[Any]) -> List[Any]:
        """Inside `run`: each float32 tensor summed over all devices. All devices pass the same list."""
        return tensors

    def assign(self, number: int, variable: Any, value: Any) -> Any:
        """Inside `run`, on the device of this number: the operation that sets a variable, to one value everywhere."""
        return tf1.assign(variable, value)

    def local(self, number: int, variable: Any) -> Any:
        """Inside `run`: this device's copy of a variable."""
        return variable

    def align(self, session: Any) -> None:
        """Broadcast the variables of rank 0. Needs the complete graph, and initialised variables."""

    def merged(self, session: Any, metrics: Metrics, stopping: bool) -> Metrics:
        """The metrics summed over all processes, which agree to stop if one is `stopping`."""
        return metrics

    def agree(self, stopping: int) -> None:
        """`stopping` processes have been asked to stop; every process has received the same number."""

    def raise_if_stopping(self, interrupts: Interrupts) -> None:
        """Raise Stopped if this process has been asked to stop; of several, if all have agreed to."""
        number = interrupts.requested if self.size == 1 else self.agreed_stop(0)
        if number is not None:
            raise Stopped(number)


ALONE = Replicas()


class Mirrored(Replicas):
    """Several devices of one process, each with a copy of every variable. Create it inside the graph that it is for."""

    def __init__(self, devices: Sequence[str], reduction: Any) -> None:
        self._strategy = tf.distribute.MirroredStrategy(devices, cross_device_ops=reduction)
        self._scope = self._strategy.scope()
        self.towers = len(devices)

    def __enter__(self) -> Replicas:
        self._scope.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._scope.__exit__(*error)

    def run(self, function: Callable[[int], Any]) -> List[Any]:
        results: Dict[int, Any] = {}

        def replica() -> None:
            number = len(results)  # tf.distribute builds one after the other, each up to its first all-reduce
            results[number] = None
            results[number] = function(number)

        run = getattr(self._strategy, "run", None) or self._strategy.experimental_run_v2  # its name up to 2.1
        run(replica)
        return [results[number] for number in range(self.towers)]

    def summed(self, tensors: List[Any]) -> List[Any]:
        # Not the context's all_reduce: it registers a gradient for itself, and fails on mirrored variables.
        def total(strategy: Any, vector: Any) -> Any:
            return strategy.extended.reduce_to(tf.distribute.ReduceOp.SUM, vector, destinations=vector)

        return unflatten(tf.distribute.get_replica_context().merge_call(total, args=(flatten(tensors),)), tensors)

    def assign(self, number: int, variable: Any, value: Any) -> Any:
        return self.local(number, variable).assign(value)

    def local(self, number: int, variable: Any) -> Any:
        return self._strategy.experimental_local_results(variable)[number]


def flatten(tensors: List[Any]) -> Any:
    """All tensors as one vector, for one all-reduce instead of many."""
    return tf.concat([tf.reshape(tensor, [-1]) for tensor in tensors], 0)


def unflatten(vector: Any, tensors: List[Any]) -> List[Any]:
    """The vector of `flatten` as tensors with the shapes of these."""
    sizes = [tensor.shape.num_elements() for tensor in tensors]
    return [tf.reshape(part, tensor.shape) for part, tensor in zip(tf.split(vector, sizes), tensors)]
