"""Communication between the adapter's ranks inside the graph: HCCL's all-reduce and broadcast."""

from __future__ import annotations

from typing import Any, List, Tuple

import numpy as np
import tensorflow as tf

from shared.metrics import Metrics
from shared.system.signals import Interrupts
from tf_seresnet.devices.npu import exact_sums
from tf_seresnet.step.replicas import AgreedInterrupts, Replicas, flatten, unflatten

tf1 = tf.compat.v1


class HcclRanks(Replicas):
    """One of several processes with one NPU each. The adapter's optimizer averages the gradients.

    Every rank builds the same graph and must run it the same number of times: a rank that stops alone leaves the others
    waiting. So all ranks stop together, at a step that they agree on.
    """

    averages = True

    def __init__(self, rank: int, ranks: int, hccl_ops: Any) -> None:
        self.rank, self.ranks = rank, ranks
        self._hccl = hccl_ops
        self._counts: Any = None  # placeholder and all-reduced sum, once created
        self._interrupts = AgreedInterrupts(Interrupts())

    def summed(self, tensors: List[Any]) -> List[Any]:
        # fusion=0: do not fuse with the gradients' all-reduce, which runs at another time.
        return unflatten(self._hccl.allreduce(flatten(tensors), "sum", fusion=0), tensors)

    def align(self, session: Any) -> None:
        # The other variables are step counts, which are equal on all ranks.
        floats = [variable for variable in tf1.global_variables() if variable.dtype.base_dtype.is_floating]
        values = self._hccl.broadcast(floats, 0)  # one operation, so no order to agree on
        session.run(tf.group(*(tf1.assign(variable, value) for variable, value in zip(floats, values))))

    def merged(self, session: Any, metrics: Metrics, stopping: bool) -> Tuple[Metrics, int]:
        own = np.append(exact_sums.pack(metrics), int(stopping)).astype(np.int32)
        if self._counts is None:
            counts = tf1.placeholder(tf.int32, own.shape, "counts")
            self._counts = counts, self._hccl.allreduce(tf.identity(counts), "sum", fusion=0)
        counts, total = self._counts
        summed = session.run(total, {counts: own})
        return exact_sums.unpack(summed[:-1], metrics.num_classes), int(summed[-1])

    def interrupts(self, own: Interrupts) -> Interrupts:
        self._interrupts = AgreedInterrupts(own)
        return self._interrupts

    def agree(self, stopping: int) -> None:
        self._interrupts.agreed = stopping > 0
