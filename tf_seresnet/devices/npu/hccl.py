"""Communication between the adapter's ranks inside the graph: HCCL's all-reduce and broadcast."""

from __future__ import annotations

import signal
from typing import Any, Dict, List, Optional

import numpy as np
import tensorflow as tf

from shared.metrics import CALIBRATION_BINS, Metrics
from tf_seresnet.devices.replicas import Replicas, flatten, unflatten

tf1 = tf.compat.v1

# The sums in `shared.metrics` are integers of any size, and an all-reduce has int32. So each integer is split into
# digits of 15 bits: up to 65,536 ranks can add digits without overflow.
_BITS, _DIGITS = 15, 7  # 105 bits: the loss of 2**45 images at its upper limit


class HcclRanks(Replicas):
    """One of several processes with one NPU each. The adapter's optimizer averages the gradients.

    Every rank builds the same graph and must run it the same number of times: a rank that stops alone leaves the others
    waiting. So all ranks stop together, at a step that they agree on.
    """

    averages = True

    def __init__(self, rank: int, size: int, hccl_ops: Any) -> None:
        self.rank, self.size = rank, size
        self._hccl = hccl_ops
        self._counts: Any = None  # placeholder and all-reduced sum, once created
        self._signal, self._agreed = int(signal.SIGTERM), False

    def summed(self, tensors: List[Any]) -> List[Any]:
        # fusion=0: do not fuse with the gradients' all-reduce, which runs at another time.
        return unflatten(self._hccl.allreduce(flatten(tensors), "sum", fusion=0), tensors)

    def align(self, session: Any) -> None:
        # The other variables are step counts, which are equal on all ranks.
        floats = [variable for variable in tf1.global_variables() if variable.dtype.base_dtype.is_floating]
        values = self._hccl.broadcast(floats, 0)  # one operation, so no order to agree on
        session.run(tf.group(*(tf1.assign(variable, value) for variable, value in zip(floats, values))))

    def merged(self, session: Any, metrics: Metrics, stopping: bool) -> Metrics:
        own = np.append(pack(metrics), int(stopping)).astype(np.int32)
        if self._counts is None:
            counts = tf1.placeholder(tf.int32, own.shape, "counts")
            self._counts = counts, self._hccl.allreduce(tf.identity(counts), "sum", fusion=0)
        counts, total = self._counts
        summed = session.run(total, {counts: own})
        self.agree(int(summed[-1]))
        return unpack(summed[:-1], metrics.num_classes)

    def propose_stop(self, number: int, step: int) -> None:
        self._signal = number  # the others learn of it in the next step, see `agree`

    def agreed_stop(self, step: int) -> Optional[int]:
        return self._signal if self._agreed else None

    def agree(self, stopping: int) -> None:
        self._agreed = stopping > 0


def pack(metrics: Metrics) -> np.ndarray:
    """The sums as int32 [n], for exact elementwise sums over ranks; n depends on the number of classes only."""
    state = metrics.to_state()
    state["confusion"] = metrics.confusion.ravel().tolist()
    values = (state[name] for name in _sizes(metrics.num_classes))
    integers = [number for value in values for number in (value if isinstance(value, list) else [value])]
    digits = [[integer >> _BITS * digit & (1 << _BITS) - 1 for digit in range(_DIGITS)] for integer in integers]
    return np.array(digits, np.int32).ravel()


def unpack(digits: np.ndarray, num_classes: int) -> Metrics:
    """The metrics of an array of `pack`, or of the sum of several, int32 [n]."""
    rows = digits.reshape(-1, _DIGITS).tolist()
    integers = iter([sum(value << _BITS * digit for digit, value in enumerate(row)) for row in rows])
    state: Dict[str, Any] = {"num_classes": num_classes}
    for name, size in _sizes(num_classes).items():
        state[name] = [next(integers) for _ in range(size)] if size else next(integers)
    cells = enumerate(state["confusion"])
    state["confusion"] = [[*divmod(position, num_classes), count] for position, count in cells if count]
    return Metrics.from_state(state)


def _sizes(num_classes: int) -> Dict[str, int]:
    """The sums in the order of `pack`, with the length of those that are lists, 0 for an integer."""
    bins = dict.fromkeys(("bin_images", "bin_correct", "bin_confidence"), CALIBRATION_BINS)
    scalars = dict.fromkeys(("images", "non_finite", "correct1", "correct5", "loss"), 0)
    return {**scalars, "class_images": num_classes, **bins, "confusion": num_classes**2}
